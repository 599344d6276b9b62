"""`?` in a statement of ours as a driver writes its placeholders. Pure."""

import itertools
import re

_TOKENS = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\?|%""")


def placed(sql: str, style: str) -> str:
    """`postgres`: `$1`, `$2`, …; `format` (PyMySQL): `%s`, with every other `%` doubled; anything else: `?`. Marks within quotes stay."""
    numbers = itertools.count(1)

    def replaced(match: re.Match[str]) -> str:
        found = match[0]
        if style == "format":
            return "%s" if found == "?" else found.replace("%", "%%")
        return f"${next(numbers)}" if found == "?" and style == "postgres" else found

    return _TOKENS.sub(replaced, sql)
