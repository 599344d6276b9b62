"""Durations as people write them: `90s`, `1h30m` (Go's form), or a number of seconds. Pure."""

import re

# The units of Go's `time.ParseDuration`.
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,9})?|\.\d{1,9})(ns|us|µs|μs|ms|s|m|h)")
_NUMBER = re.compile(r"\d{1,12}(\.\d{1,9})?")
RULE = "must be a duration such as 30s, 5m or 1h30m, or a number of seconds"


def seconds_of(value: object) -> float:
    """Seconds, 0 or more. Errors: `ValueError` with what it must be."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12:
        return float(value)
    text = value.strip() if isinstance(value, str) and len(value) <= 100 else ""
    if _NUMBER.fullmatch(text):
        return float(text)
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(RULE)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
