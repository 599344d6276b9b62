"""How much hypothesis tries with `--hypothesis-profile=fuzz`, as `make fuzz` asks: three times what it tries in the fast suite."""

from hypothesis import settings

settings.register_profile("fuzz", max_examples=300)
