"""Times as the API writes them: UTC, ISO 8601, ending in `Z`; durations in whole milliseconds."""

import datetime as dt


def iso(moment: dt.datetime | None) -> str | None:
    """`2024-01-15T06:00:00.123Z`; milliseconds, because durations are given in them."""
    if moment is None:
        return None
    return moment.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def milliseconds(start: dt.datetime | None, end: dt.datetime | None) -> int | None:
    """Whole milliseconds from `start` to `end`, never negative (clocks step); None while either is unknown."""
    if start is None or end is None:
        return None
    return max(0, round((end - start).total_seconds() * 1000))


def human_duration(ms: int) -> str:
    """`45ms`, `2.3s`, `1m23s`, `2h05m`: the form that log lines use."""
    if ms < 1000:
        return f"{ms}ms"
    seconds = ms / 1000
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"
