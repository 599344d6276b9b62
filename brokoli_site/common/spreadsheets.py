"""What a spreadsheet would execute when somebody opens a file of texts: https://owasp.org/www-community/attacks/CSV_Injection

The patterns mean the same to Python's `re` and to RE2, which DuckDB and Arrow have.
"""

import re

# How a text starts that is read as a formula; full-width signs are read as the plain ones.
FORMULA = "^[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
# What starts like one and is only a number in quotes, from its beginning to its end.
NUMBER = r"[+-]?[0-9]+([.,][0-9]+)?"


def harmless(text: str) -> str:
    """The text as no spreadsheet takes it for a formula: with an apostrophe in front, where it would."""
    return f"'{text}" if re.match(FORMULA, text) and not re.fullmatch(NUMBER, text) else text
