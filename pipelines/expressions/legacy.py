"""Brokoli's older rule forms that SQL's grammar does not have, rewritten in the text before it is parsed.

`a && b`, `name contains 'x'` (also `starts_with`, `ends_with`, each with `not`), and dates written bare (`day >= 2024-01-01`).
What the grammar has but means differently (`status == paid`, `first + ' ' + last`) is rewritten in the tree: see `rewriting.py`.
The forms are described in `docs/expressions.md`.
"""

import difflib
import re
from collections.abc import Mapping

from pipelines.expressions import kinds
from pipelines.expressions.functions import INFIX_OPERATORS
from pipelines.expressions.source import Edit, Source

_OPERATOR_OF = {word: operator for operator, word in INFIX_OPERATORS.items()}

_TOKEN = re.compile(
    r"""
      (?P<skip> '(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?(?:\*/|\Z) | \$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|\Z) )
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
    return not set(words_around) & {"and", "or", "not", "is", "like", "then", "when", "else", "case", "between", "end"}


# A condition that is one comparison, and nothing else: there, and only there, a value may be several words without quotes.
_COMPARISON = re.compile(r"""\s*(?P<column>[^\W\d]\w*|"[^"]+")\s*(?P<operator>==|!=|>=|<=|=|>|<)\s*(?P<value>\w[\w.:@-]*(?:\ \w[\w.:@-]*)*)\s*""")
_MEMBERSHIP = re.compile(r"""\s*(?P<column>[^\W\d]\w*|"[^"]+")\s+(?P<negated>not\s+)?in\s*\[(?P<values>[^\[\]()'"]+)\]\s*""", re.IGNORECASE)
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}([T ][\d:.]+)?")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_KEYWORDS = frozenset({"and", "or", "not", "is", "like", "ilike", "between", "case", "collate", "null", "true", "false"})


def rewrite_simple(source: Source, types: Mapping[str, str]) -> Source | None:
    """`status = in progress` as `status = 'in progress'`, `city in [New York, Rome]` with quotes; None for anything else.

    For texts that are no SQL as they stand. `types` by column: what stands for a column is no text, nor is what is compared with a number.
    """
    known = {name.lower(): kinds.of_type(type_) if type_ else kinds.UNKNOWN for name, type_ in types.items()}
    match = _COMPARISON.fullmatch(source.text)
    if match:
        value = match["value"]
        words = re.split(r"[\W_]+", value.lower()) + value.lower().split()
        equal = match["operator"] in ("==", "!=", "=")
        if not (equal or _MOMENT.fullmatch(value)) or known.keys() & {value.lower(), *words} or _KEYWORDS & set(words):
            return None
        if known.get(match["column"].strip('"').lower()) in (kinds.NUMBER, kinds.BOOLEAN):
            return None
        if difflib.get_close_matches(value.lower(), known, n=1, cutoff=0.8):
            return None  # rather a column's name misspelt: the error says so
        return source.edited([Edit(match.start("value"), match.end("value"), _quoted(value))])
    match = _MEMBERSHIP.fullmatch(source.text)
    if match:
        values = [value.strip() for value in match["values"].split(",")]
        written = ", ".join(value if _NUMBER.fullmatch(value) else _quoted(value) for value in values)
        return source.edited([Edit(match.start("values"), match.end("values"), written)])
    return None


def _quoted(value: str) -> str:
    return f"'{value}'"
