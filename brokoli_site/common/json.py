"""JSON as the API reads and writes it: strictly, so that every client and both databases understand the same.

Refused with a 400 that says where: what Python would accept and others would not (`NaN`, `Infinity`, numbers out of range,
duplicate keys, lone surrogates), what PostgreSQL cannot store (NUL), and what only harms (depth, integers of thousands of
digits). A body over its limit is a 413, found while it is read.
"""

import base64
import datetime as dt
import decimal
import json
import math
import uuid
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import IO, Any

import orjson
from django.conf import settings
from django.utils.functional import Promise
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer

from brokoli_site.common.errors import BadRequest, TooLarge
from brokoli_site.common.time import iso

MOST_LEVELS = 64
MOST_DIGITS = 4300  # Python's own limit for turning text into an integer
_CHUNK_BYTES = 64 * 1024


class InvalidJSON(BadRequest):
    """The body is not JSON."""

    code = "invalid_json"


class StrictJSONParser(BaseParser):
    """The body of a request as a Python value; `{}` when it is empty. Errors: `InvalidJSON`, `TooLarge`."""

    media_type = "application/json"

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        return loads(read_limited(stream, self.limit()))

    def limit(self) -> int:
        """Bytes that a body may have."""
        return int(settings.MAX_BODY_BYTES)


class PipelineJSONParser(StrictJSONParser):
    """The same for pipeline documents, which may be larger."""

    def limit(self) -> int:
        return int(settings.MAX_PIPELINE_BYTES)


def read_limited(stream: IO[bytes], limit: int) -> bytes:
    """All of `stream`. Errors: `TooLarge` as soon as it holds more than `limit` bytes."""
    pieces, size = [], 0
    while piece := stream.read(min(_CHUNK_BYTES, limit + 1 - size)):
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise TooLarge(f"The body is larger than {limit // 1024} KiB, the most that is accepted here.")
    return b"".join(pieces)


def loads(body: bytes) -> Any:
    """The value of a JSON text; `{}` for an empty one. Errors: `InvalidJSON` naming the place."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise InvalidJSON(f"The body is not UTF-8: byte {error.start} cannot be read.") from error
    if not text.strip(" \t\r\n"):
        return {}
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise InvalidJSON(f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from error
    except RecursionError as error:
        raise InvalidJSON(f"The body is nested more than {MOST_LEVELS} levels deep.") from error
    check(value)
    return value


class _Refused:
    """Stands in the parsed value for what JSON must not hold, until `check` knows its place."""

    def __init__(self, why: str) -> None:
        self.why = why


class _DuplicateKeys(dict[str, Any]):
    """An object that has this key twice."""

    key = ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    marked = _DuplicateKeys(found)
    seen: set[str] = set()
    marked.key = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    return marked


def _integer(text: str) -> int | _Refused:
    return _Refused(f"This number has more than {MOST_DIGITS} digits.") if len(text) > MOST_DIGITS else int(text)


def _constant(text: str) -> _Refused:
    return _Refused(f"{text} is not JSON; use null.")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_constant=_constant)


def check(value: Any) -> None:
    """Errors: `InvalidJSON` naming the first place that holds what JSON, or a database, cannot. Iterative: depth is the client's."""
    waiting: list[tuple[Any, str, int]] = [(value, "", 0)]
    while waiting:
        item, pointer, level = waiting.pop()
        if isinstance(item, str):
            _check_text(item, pointer)
        elif isinstance(item, dict | list):
            if level == MOST_LEVELS:
                raise InvalidJSON(f"The body is nested more than {MOST_LEVELS} levels deep.", _shown(pointer))
            if isinstance(item, _DuplicateKeys):
                raise InvalidJSON(f"The key '{_printable(item.key)}' occurs twice in the object at '{_shown(pointer)}'.", _shown(pointer))
            waiting.extend(reversed([(inner, f"{pointer}/{key}", level + 1) for key, inner in _children(item, pointer)]))
        elif isinstance(item, _Refused):
            raise InvalidJSON(f"{item.why} It is at '{_shown(pointer)}'.", _shown(pointer))
        elif isinstance(item, float) and not math.isfinite(item):
            raise InvalidJSON(f"The number at '{_shown(pointer)}' is out of range.", _shown(pointer))


def _children(item: dict[str, Any] | list[Any], pointer: str) -> list[tuple[str, Any]]:
    if isinstance(item, list):
        return [(str(index), inner) for index, inner in enumerate(item)]
    for key in item:
        _check_text(key, f"{pointer}/{key}", "key")
    return [(key.replace("~", "~0").replace("/", "~1"), inner) for key, inner in item.items()]


def _check_text(text: str, pointer: str, what: str = "text") -> None:
    if "\0" in text:
        raise InvalidJSON(f"The {what} at '{_shown(pointer)}' holds a NUL character.", _shown(pointer))
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidJSON(f"The {what} at '{_shown(pointer)}' holds half of a surrogate pair.", _shown(pointer)) from error


def _shown(pointer: str) -> str:
    return pointer if len(pointer) <= 200 and pointer.isprintable() else _printable(pointer)


def _printable(text: str) -> str:
    """Text of a client that can stand in an answer: short, and without what JSON cannot hold."""
    return "".join(character if character.isprintable() else "�" for character in text[:200])


class JSONRenderer(BaseRenderer):
    """Answers as compact UTF-8. Times are ISO 8601 in UTC with a `Z`; NaN and infinities are null."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None) -> bytes:
        return b"" if data is None else dumps(data)


def dumps(value: Any) -> bytes:
    """The JSON text of a value."""
    try:
        return orjson.dumps(value, default=_plain, option=orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_NON_STR_KEYS)
    except TypeError:
        # Integers beyond 64 bits and lone surrogates: rare, legal in a document, and only the standard library writes them.
        return json.dumps(_finite(value), default=_plain, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    """What JSON has no form for, as what it has one for."""
    for kinds, write in _FORMS:
        if isinstance(value, kinds):
            return write(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


_FORMS: tuple[tuple[type | tuple[type, ...], Callable[[Any], Any]], ...] = (
    (dt.datetime, lambda moment: iso(moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC))),
    ((dt.date, dt.time), lambda day: day.isoformat()),
    (dt.timedelta, lambda duration: round(duration.total_seconds() * 1000)),
    ((bytes, bytearray, memoryview), lambda binary: base64.b64encode(binary).decode()),
    ((decimal.Decimal, uuid.UUID, Promise), str),
    (Enum, lambda member: member.value),
    ((set, frozenset), sorted),
    (Iterable, list),
)


def _finite(value: Any) -> Any:
    """The same value with NaN and infinities as None. Depth is bounded: documents have at most `MOST_LEVELS`."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
