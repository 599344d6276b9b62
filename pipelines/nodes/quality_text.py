"""Quality rules written as text: `not_null(id)`, `range(age, 0, 120)`, `row_count(min=1)`, `freshness(at, max_hours=24)`.

The name, then arguments in parentheses: first the column (for `unique` and `foreign_key` there may be several), then
what the rule needs, in order or as `key=value`. A name or value may stand in quotes. `on_failure=warn` goes with any rule.
"""

import re
from typing import Any

_FORM = re.compile(r"\s*(\w+)\s*\((.*)\)\s*", re.DOTALL)
_KEYWORD = re.compile(r"(\w+)\s*=(?!=)\s*(.*)", re.DOTALL)
_ON_FAILURE = re.compile(r"(.*?),?\s*on_failure\s*=\s*[\"']?(\w+)[\"']?\s*", re.DOTALL)

# What follows the column, in order.
_POSITIONS: dict[str, tuple[str, ...]] = {
    "not_null": (),
    "no_blank": (),
    "unique": (),
    "min": ("min",),
    "max": ("max",),
    "range": ("min", "max"),
    "row_count": (),
    "regex": ("pattern",),
    "type_check": ("expected_type",),
    "freshness": ("max_hours",),
    "accepted_values": ("values",),
    "foreign_key": ("references",),
    "expression": ("expression",),
}
_REQUIRED = frozenset({"min", "max", "regex", "type_check", "accepted_values"})


def parse_rule(text: str) -> dict[str, Any]:
    """The rule as documents write it: `{rule, column, params, on_failure?}`. Errors: `ValueError` with the end of a sentence."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(f"'{_short(text)}' is not a rule; write it as name(column, …), for example not_null(id)")
    rule, inside = match[1].lower(), match[2]
    if rule not in _POSITIONS:
        raise ValueError(f"has the unknown rule '{_short(rule)}'; known: {', '.join(sorted(_POSITIONS))}")
    found: dict[str, Any] = {"rule": rule, "params": {}}
    ending = _ON_FAILURE.fullmatch(inside)
    if ending is not None:
        inside, found["on_failure"] = ending[1], ending[2].lower()
    if rule == "expression":
        return {**found, "params": {"expression": inside.strip()}}
    if rule == "regex":
        return {**found, **_regex(inside)}
    positional, keywords = _arguments(inside)
    return {**found, **_fill(rule, positional, keywords)}


def _regex(inside: str) -> dict[str, Any]:
    """All behind the first comma is the pattern, commas and parentheses too."""
    column, comma, pattern = _first_and_rest(inside)
    if not comma:
        raise ValueError("regex(column, pattern) needs a pattern")
    keyword = re.fullmatch(r"\s*pattern\s*=\s*(.*)", pattern, re.DOTALL)
    return {"column": _unquoted(column), "params": {"pattern": _unquoted(keyword[1] if keyword else pattern)}}


def _fill(rule: str, positional: list[str], keywords: dict[str, str]) -> dict[str, Any]:
    if rule == "row_count":
        if positional:
            raise ValueError("row_count(min=…, max=…) takes its limits by name")
        return {"params": dict(keywords)}
    if rule == "unique":
        return {"column": positional, "params": dict(keywords)}
    if not positional:
        raise ValueError(f"{rule}(…) needs the name of a column")
    column, rest = positional[0], positional[1:]
    if rule == "accepted_values" and rest:
        return {"column": column, "params": {"values": _values(rest), **keywords}}
    names = _POSITIONS[rule]
    if len(rest) > len(names):
        raise ValueError(f"{rule}({', '.join(('column', *names))}) has {len(rest) - len(names)} arguments too many")
    if rule in _REQUIRED and not rest and not keywords:
        raise ValueError(f"'{rule}({_short(column)})' says too little; write it as {rule}(column, {', '.join(names)})")
    return {"column": column, "params": {**dict(zip(names, rest, strict=False)), **keywords}}


def _values(arguments: list[str]) -> list[str]:
    """`a, b` and `[a, b]` both."""
    if len(arguments) == 1 and arguments[0].startswith("[") and arguments[0].endswith("]"):
        return _arguments(arguments[0][1:-1])[0]
    return arguments


def _arguments(text: str) -> tuple[list[str], dict[str, str]]:
    positional: list[str] = []
    keywords: dict[str, str] = {}
    for part in _split(text):
        keyword = _KEYWORD.fullmatch(part)
        if keyword:
            keywords[keyword[1]] = _unquoted(keyword[2])
        elif keywords:
            raise ValueError(f"'{_short(part)}' stands behind an argument with a name; put it before")
        else:
            positional.append(_unquoted(part))
    return positional, keywords


def _split(text: str) -> list[str]:
    """At the commas that stand in no quotes and no brackets."""
    parts: list[str] = []
    while text.strip():
        part, comma, text = _first_and_rest(text)
        if not part.strip():
            raise ValueError("has an empty argument")
        parts.append(part.strip())
        if comma and not text.strip():
            raise ValueError("has an empty argument")
    return parts


def _first_and_rest(text: str) -> tuple[str, str, str]:
    """What stands before the first comma outside of quotes and brackets, the comma ("" when there is none), and the rest."""
    quote, depth = "", 0
    for index, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and not text[:index].strip():
            quote = character  # an apostrophe within a word opens nothing
        elif character in "[(":
            depth += 1
        elif character in "])":
            depth -= 1
        elif character == "," and depth <= 0:
            return text[:index], ",", text[index + 1 :]
    return text, "", ""


def _unquoted(text: str) -> str:
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1].replace(text[0] * 2, text[0])
    return text


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:59]}…"
