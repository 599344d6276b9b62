"""What differs between two states of a thing, for people to read: bounded, and without what looks like a secret. Pure.

difference({"name": "a", "nodes": [{"id": "x", "config": {"path": "1.csv"}}]}, {"name": "a", "nodes": [{"id": "x", "config": {"path": "2.csv"}}]})
→ {"changes": [{"field": "nodes[x].config.path", "before": "1.csv", "after": "2.csv"}], "left_out": 0}

Callers leave secrets out of both states. What people wrote into a definition or a script all the same is hidden here, before anything is cut.
"""

import datetime as dt
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

MOST_CHANGES = 200
LONGEST_TEXT = 1_000
LONGEST_VALUE = 8_000  # characters of one side of a change
LONGEST_IN_ALL = 64_000  # characters of all changes, as JSON
LONGEST_FIELD = 500
DEEPEST = 16
HIDDEN = "(hidden)"
SET = "(set)"  # what is told of a secret: that there is one
CHANGED = "(changed)"  # … or another than before
_CONTEXT = 100  # characters before the first difference of two long texts
_SLACK = 400  # characters beyond a cut that are looked at: what is hidden begins with a word that says so

_WORDS = r"pass(?:word|wd|phrase)?|secrets?|tokens?|api[_-]?keys?|access[_-]?keys?|private[_-]?keys?|credentials?|authorization|cookies?|signature"
_SECRET_NAME = re.compile(rf"(?:\A|[^a-z])(?:{_WORDS})\Z|(?:\A|[^a-z])pwd\Z", re.IGNORECASE)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_ASSIGNED = re.compile(rf"((?:{_WORDS}|pwd)[\"']?\s*(?:=|:|=>)\s*)(?:[\"'][^\"'\n]*[\"']?|[^\s\"',;&)\]}}]+)", re.IGNORECASE)
_SCHEME = re.compile(r"\b(bearer|basic|digest|apikey)(\s+)[A-Za-z0-9+/=._~-]{6,}", re.IGNORECASE)
_IN_URL = re.compile(r"(://[^\s/:@]*:)[^\s/@]+@")
# A place where a secret is kept, or a name that stands for one: no secret itself.
_KEPT = r"(?:env|file)://\S+"
_REFERENCE = re.compile(rf"\s*{_KEPT}\s*|\s*(?:Bearer\s+|Basic\s+)?(?:\$\{{[^}}]*\}}|\{{\{{[^}}]*\}}\}})\s*", re.IGNORECASE)


class _Missing(Enum):
    MISSING = "missing"


_MISSING = _Missing.MISSING


@dataclass(frozen=True, slots=True)
class _Change:
    field: str
    before: Any
    after: Any
    is_secret: bool

    def shown(self) -> dict[str, Any]:
        before, after = self.before, self.after
        start = _first_difference(before, after) if isinstance(before, str) and isinstance(after, str) else 0
        sides = {side: value for side, value in (("before", before), ("after", after)) if value is not _MISSING}
        return {"field": self.field[:LONGEST_FIELD], **{side: _Room(start).shown(value, self.is_secret) for side, value in sides.items()}}


def difference(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> dict[str, Any]:
    """`{changes: [{field, before?, after?}], left_out}`; a side that a change lacks was not there. There was no room for `left_out` more."""
    found = _changes(before or {}, after or {})
    shown: list[dict[str, Any]] = []
    size = 0
    for change in itertools.islice(found, MOST_CHANGES):
        entry = change.shown()
        size += len(json.dumps(entry, ensure_ascii=False))
        if size > LONGEST_IN_ALL:
            return {"changes": shown, "left_out": 1 + sum(1 for _ in found)}
        shown.append(entry)
    return {"changes": shown, "left_out": sum(1 for _ in found)}


def _changes(before: Any, after: Any, field: str = "", is_secret: bool = False, depth: int = 0) -> Iterator[_Change]:
    if before == after and repr(before) == repr(after):  # 1 is equal to True
        return
    pair = _by_key(before, after) if depth < DEEPEST else None
    if pair is None:
        yield _Change(field, before, after, is_secret)
        return
    was, now, is_list = pair
    for key in (*was, *(key for key in now if key not in was)):
        inner = f"{field}[{key}]" if is_list else f"{field}.{key}" if field else str(key)
        hides = is_secret or (not is_list and is_secret_name(str(key))) or _is_secret_pair(before, after, key)
        yield from _changes(was.get(key, _MISSING), now.get(key, _MISSING), inner, hides, depth + 1)


def _by_key(before: Any, after: Any) -> tuple[Mapping[Any, Any], Mapping[Any, Any], bool] | None:
    """Both sides by the keys of what they hold, and whether they are lists; None: they are compared as wholes."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return before, after, False
    if isinstance(before, list | tuple) and isinstance(after, list | tuple):
        was, now = _named(before), _named(after)
        if was is not None and now is not None and (was or now):
            return was, now, True
    return None


def _named(items: Sequence[Any]) -> dict[str, Any] | None:
    """The items of a list by what names each: its id, or from where to where an edge goes. None: something has no name, or another's."""
    names = [_name(item) for item in items]
    if None in names or len(set(names)) < len(names):
        return None
    return {str(name): item for name, item in zip(names, items, strict=True)}


def _name(item: Any) -> str | None:
    if not isinstance(item, Mapping):
        return None
    if isinstance(item.get("id"), str | int):
        return str(item["id"])
    if isinstance(item.get("from"), str) and isinstance(item.get("to"), str):
        condition = item.get("condition")
        return f"{item['from']} to {item['to']}" + (f" if {str(condition).lower()}" if condition is not None else "")
    return None


def is_secret_name(name: str) -> bool:
    """Whether what has this name is to be hidden: `password`, `api_key`, `X-Auth-Token`, `clientSecret`."""
    return _SECRET_NAME.search(_CAMEL.sub("_", name)) is not None


def told_of_secret(value: Any, before: Any = None) -> Any:
    """What is told of a secret that had the value `before`: `SET`, `CHANGED`; where it is kept, when that is outside; None of none."""
    if value is None or value == "":
        return None
    if isinstance(value, str) and re.fullmatch(_KEPT, value):
        return value
    return CHANGED if before not in (None, "", value) else SET


def is_reference(text: str) -> bool:
    """Whether it says where a secret is kept, or names one: `env://…`, `file://…`, `${secret.x}`."""
    return _REFERENCE.fullmatch(text) is not None


def _is_secret_pair(before: Any, after: Any, key: Any) -> bool:
    """`{"name": "Authorization", "value": …}`"""
    if key != "value":
        return False
    names = [side.get(word) for side in (before, after) if isinstance(side, Mapping) for word in ("name", "key", "header")]
    return any(isinstance(name, str) and is_secret_name(name) for name in names)


def without_secrets(text: str) -> str:
    """The text without what it gives away: passwords in URLs, values that are assigned to secret names, credentials of headers."""
    text = _IN_URL.sub(rf"\1{HIDDEN}@", text)
    text = _SCHEME.sub(rf"\1\2{HIDDEN}", text)
    return _ASSIGNED.sub(lambda found: found[0] if is_reference(found[0][len(found[1]) :].strip("\"'")) else found[1] + HIDDEN, text)


class _Room:
    """How much of one side of a change may still be shown; `start` is where a long text begins to differ."""

    def __init__(self, start: int = 0) -> None:
        self.left = LONGEST_VALUE
        self.start = start

    def shown(self, value: Any, is_secret: bool = False, depth: int = 0) -> Any:
        if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
            self.left -= 8
            return value
        if isinstance(value, Mapping):
            return self._mapping(value, is_secret, depth)
        if isinstance(value, list | tuple | set | frozenset):
            return self._list(list(value), is_secret, depth)
        return self._text(value.isoformat() if isinstance(value, dt.date) else str(value), is_secret)

    def _mapping(self, value: Mapping[Any, Any], is_secret: bool, depth: int) -> Any:
        if depth >= DEEPEST:
            return "…"
        found: dict[str, Any] = {}
        for number, (key, inner) in enumerate(value.items()):
            if self.left <= 0:
                return {**found, "…": f"{len(value) - number} more"}
            self.left -= len(str(key))
            hides = is_secret or is_secret_name(str(key)) or _is_secret_pair(value, None, key)
            found[str(key)[:LONGEST_TEXT]] = self.shown(inner, hides, depth + 1)
        return found

    def _list(self, value: list[Any], is_secret: bool, depth: int) -> Any:
        if depth >= DEEPEST:
            return "…"
        found: list[Any] = []
        for number, inner in enumerate(value):
            if self.left <= 0:
                return [*found, f"… {len(value) - number} more"]
            found.append(self.shown(inner, is_secret, depth + 1))
        return found

    def _text(self, text: str, is_secret: bool) -> str:
        if is_secret and text and text not in (SET, CHANGED) and not is_reference(text):
            self.left -= len(HIDDEN)
            return HIDDEN
        most = max(0, min(LONGEST_TEXT, self.left))
        start = self.start if len(text) > most else 0
        # Hidden first, cut afterwards; from the beginning of the line, where the word stands that says what it is.
        begin = text.rfind("\n", max(0, start - LONGEST_TEXT), start) + 1 if start else 0
        shown = without_secrets(text[begin : start + most + _SLACK])
        shown = shown[: most + start - begin]
        cut = ("…" if begin else "") + shown + ("…" if len(text) > begin + len(shown) and len(text) > most else "")
        self.left -= len(cut)
        return cut


def _first_difference(before: str, after: str) -> int:
    """Where two texts begin to differ, and a little before."""
    same = next((index for index, (one, other) in enumerate(zip(before, after, strict=False)) if one != other), min(len(before), len(after)))
    return max(0, same - _CONTEXT)
