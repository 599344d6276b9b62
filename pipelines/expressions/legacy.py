"""Brokoli's older rule forms that SQL's grammar does not have, rewritten in the text before it is parsed.

`a && b`, `name contains 'x'` (also `starts_with`, `ends_with`, each with `not`), and dates written bare (`day >= 2024-01-01`).
What the grammar has but means differently (`status == paid`, `first + ' ' + last`) is rewritten in the tree: see `rewriting.py`.
The forms are described in `docs/expressions.md`.
"""

import re

from pipelines.expressions.source import Edit, Source

# Operators that the parser accepts and DuckDB does not have, so nobody else can mean them: infix words become these.
INFIX_OPERATORS = {"@~~": "contains", "^@~": "starts_with", "@^~": "ends_with"}
_OPERATOR_OF = {word: operator for operator, word in INFIX_OPERATORS.items()}

_TOKEN = re.compile(
    r"""
      (?P<skip> '(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/ | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$ )
    | (?P<infix> (?<![\w.]) (?:(?P<negated>not)\s+)? (?P<word>contains|starts_with|ends_with) (?![\w(.:]) (?!\s*\() )
    | (?P<and> && )
    | (?P<date> (?<=[=<>\s]) \d{4}-\d{2}-\d{2} (?![\w'.:-]) )
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_MAY_MATTER = re.compile(r"contains|_with|&&|\d-\d", re.IGNORECASE)
_COMPARES = re.compile(r"[=<>]\s*$")


def rewrite(source: Source) -> Source:
    """`source` with the older forms as SQL that the parser takes."""
    text = source.text
    if not _MAY_MATTER.search(text):
        return source
    edits = []
    for match in _TOKEN.finditer(text):
        replacement = _replacement(match, text)
        if replacement is not None:
            edits.append(Edit(match.start(), match.end(), replacement))
    return source.edited(edits)


def _replacement(match: re.Match[str], text: str) -> str | None:
    if match["and"]:
        return " AND "
    if match["date"]:
        return f"'{match['date']}'" if _COMPARES.search(text, max(0, match.start() - 20), match.start()) else None
    if match["infix"] and _stands_between_operands(match, text):
        return ("!" if match["negated"] else "") + _OPERATOR_OF[match["word"].lower()]
    return None


def _stands_between_operands(match: re.Match[str], text: str) -> bool:
    """A column may be called `contains`: the word is an operator only when something stands on either side that it can join."""
    before, after = text[: match.start()].rstrip(), text[match.end() :].lstrip()
    if not before or not after or before[-1] in "(,=<>+-*/|~!%" or after[0] in "),=<>+*/|!%":
        return False
    words_around = (re.split(r"\W", before)[-1].lower(), re.split(r"\W", after)[0].lower())
    return not set(words_around) & {"and", "or", "not", "is", "in", "like", "then", "when", "else", "case", "between", "end"}
