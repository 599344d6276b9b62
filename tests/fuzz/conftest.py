"""How much hypothesis tries here: little in the fast suite, more with `--hypothesis-profile=fuzz`, as `make fuzz` does."""

from typing import Any

from hypothesis import HealthCheck, settings

_ALIKE: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "suppress_health_check": (HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much),
}
settings.register_profile("short", max_examples=40, **_ALIKE)
settings.register_profile("fuzz", max_examples=300, **_ALIKE)
