"""The records in an answer: where they are in its JSON, how many, and as lines that the readers of files take."""

import csv
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

import ijson
import orjson

from brokoli_site.common.errors import NodeError
from pipelines.nodes.base import Stop

_SHOWN_KEYS = 20
_CHECKED_EVERY = 1000
_DEEPEST = 1000
_BLOCK = 1000
_LONGEST_TEXT = 64 * 1024**2
_DIGITS = re.compile(rb"[0-9]{2000}")
_PIECE = 1024 * 1024
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_LONGEST_SCALAR = 16 * 1024**2


class Missing(NodeError):
    """There is nothing at the path."""

    code = "no_such_path"


def copy(source: Path, path: str, target: BinaryIO, what: str, stop: Stop) -> int:
    """Write the records at the dotted `path` of a JSON file to `target`, one a line; how many. Never more than one in memory.

    At the path is an array of objects, one object, or null for none. Errors: `Missing`; `NodeError`; the stop's reason.
    """
    event, keys = _event_at(source, path, what)
    if event == "start_array":
        return _copy_elements(source, f"{path}.item" if path else "item", target, what, stop)
    if event == "start_map":
        with _opened(source) as file:
            record = next(_guarded(ijson.items(file, path), what))
        target.write(_line(record, f"The record of {what}"))
        return 1
    if event == "null":
        return 0
    if event:
        raise NodeError(f"At '{path}' in {what} there is no array of records, but a {event}. Correct `records`.")
    has = f"It has: {', '.join(map(repr, keys[:_SHOWN_KEYS]))}." if keys else "It is no object."
    raise Missing(f"There is nothing at '{path}' in {what}. {has} Correct `records`.")


def _copy_elements(source: Path, prefix: str, target: BinaryIO, what: str, stop: Stop) -> int:
    count = 0
    with _opened(source) as file:
        for record in _guarded(ijson.items(file, prefix), what):
            if count % _CHECKED_EVERY == 0:
                stop.check()
            count += 1
            target.write(_line(record, f"Record {count} of {what}"))
    return count


def value_at(source: Path, path: str, what: str) -> Any:
    """The value at a dotted path; None where nothing is. Errors: `NodeError` for what is no JSON."""
    with _opened(source) as file:
        return next(_guarded(ijson.items(file, path), what), None)


def text_at(source: Path, path: str, what: str) -> str:
    """A text or a number at the path, as text; "" for what is missing, null or false."""
    value = value_at(source, path, what)
    if value is None or value is False:
        return ""
    if isinstance(value, dict | list):
        raise NodeError(f"At '{path}' in {what} there is no single value.")
    return str(value)


def scalar(source: Path, path: str, what: str) -> bytes:
    """One line with the value at `path` as `value`. Numbers in the path count the elements of arrays. Errors: `Missing`, `NodeError`."""
    if source.stat().st_size > _LONGEST_SCALAR:
        raise NodeError(f"{what} is larger than {_LONGEST_SCALAR // 1024**2} MiB, the most in which a single value is looked for.")
    with _opened(source) as file:
        found = next(_guarded(ijson.items(file, ""), what), None)
    for part in path.split(".") if path else ():
        if isinstance(found, dict) and part in found:
            found = found[part]
        elif isinstance(found, list) and part.isascii() and part.isdigit() and int(part[:9]) < len(found):
            found = found[int(part[:9])]
        else:
            raise Missing(f"There is nothing at '{path}' in {what}: '{part}' is missing. Correct `value_path`.")
    return _line({"value": found}, f"The value of {what}")


def copy_lines(source: Path, target: BinaryIO, stop: Stop) -> int:
    """Write the lines that are not blank to `target`, the last one ended; how many."""
    count = 0
    with source.open("rb") as file:
        for line in file:
            if count % _CHECKED_EVERY == 0:
                stop.check()
            if text := line.strip(b" \t\r\n\x1e"):
                target.write(text + b"\n")
                count += 1
    return count


def count_rows(source: Path, delimiter: str, *, header: bool) -> int:
    """The rows of a CSV file without its header."""
    csv.field_size_limit(64 * 1024**2)
    with source.open(encoding="utf-8", errors="replace", newline="") as file:
        try:
            count = sum(1 for row in csv.reader(file, delimiter=delimiter) if row)
        except csv.Error as error:
            raise NodeError(f"An answer cannot be read as CSV ({error}).") from error
    return max(0, count - 1) if header else count


def _event_at(source: Path, path: str, what: str) -> tuple[str, list[str]]:
    """What begins at the path, as ijson calls it, "" for nothing; and the keys of the outermost object until then."""
    keys: list[str] = []
    with _opened(source) as file:
        for prefix, event, value in _guarded(ijson.parse(file), what):
            if prefix == path and event != "map_key":
                return event, keys
            if prefix == "" and event == "map_key":
                keys.append(value)
    return "", keys


class _Shallow:
    """A JSON file that ijson can take: its work for a value grows with the depth, and its parser crashes (in C) on a number that Python refuses."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        self._open = 0
        self._checked = False

    def read(self, size: int = -1) -> bytes:
        """Errors: `ValueError`."""
        chunk = self._file.read(size)
        # Those within texts count, too, so this is only a suspicion.
        self._open += chunk.count(b"[") + chunk.count(b"{") - chunk.count(b"]") - chunk.count(b"}")
        if not self._checked and (self._open > _DEEPEST or _has_digits(chunk)):
            self._checked = True
            _check(self._path)
        return chunk


def _has_digits(chunk: bytes) -> bool:
    """Whether a run of digits covers one of its blocks: one twice as long as a block does."""
    return any(chunk[start : start + _BLOCK].isdigit() for start in range(0, len(chunk) - _BLOCK + 1, _BLOCK))


def _check(path: Path) -> None:
    """Look at what is outside of texts. Errors: `ValueError`."""
    depth, rest = 0, b""
    with path.open("rb") as file:
        while chunk := file.read(_PIECE):
            plain = _TEXT.sub(b'""', rest + chunk)
            cut = _cut(plain)
            plain, rest = plain[:cut], plain[cut:]
            depth += plain.count(b"[") + plain.count(b"{") - plain.count(b"]") - plain.count(b"}")
            if depth > _DEEPEST:
                raise ValueError(f"nested more than {_DEEPEST:,} levels deep")
            if _DIGITS.search(plain) or (rest[:1].isdigit() and len(rest) >= 2 * _BLOCK):
                raise ValueError(f"a number of more than {2 * _BLOCK:,} digits")
            if len(rest) > _LONGEST_TEXT:
                raise ValueError("a text without end")


def _cut(plain: bytes) -> int:
    """Where a text or a number begins that may go on in the next piece."""
    odd = plain.count(b'"') % 2
    return plain.rfind(b'"') if odd else len(plain.rstrip(b"0123456789"))


@contextmanager
def _opened(path: Path) -> Iterator[_Shallow]:
    with path.open("rb") as file:
        yield _Shallow(path, file)


def _guarded(items: Iterator[Any], what: str) -> Iterator[Any]:
    try:
        yield from items
    except (ijson.JSONError, UnicodeError, ValueError, RecursionError) as error:
        reason = str(error).split("\n", 1)[0].strip()[:120] or type(error).__name__
        raise NodeError(f"{what[:1].upper()}{what[1:]} is not valid JSON ({reason}).") from error


def _line(record: Any, what: str) -> bytes:
    if not isinstance(record, dict):
        raise NodeError(f'{what} is no JSON object, such as {{"id": 1}}, but {_kind(record)}. Correct `records`.')
    try:
        return orjson.dumps(record, default=_exact, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        pass  # a whole number beyond 64 bits, or a text that is none
    try:
        return orjson.dumps(_fragments(record), default=_exact, option=orjson.OPT_APPEND_NEWLINE)
    except (TypeError, RecursionError) as error:
        raise NodeError(f"{what} cannot be kept: {str(error)[:120]}.") from error


def _exact(value: Any) -> Any:
    """Numbers with a point or an exponent, digit by digit."""
    if isinstance(value, Decimal):
        return orjson.Fragment(str(value))
    raise TypeError(f"a value of type {type(value).__name__}")


def _fragments(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _fragments(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fragments(inner) for inner in value]
    return orjson.Fragment(json.dumps(value)) if isinstance(value, int) and not isinstance(value, bool) else value


def _kind(value: object) -> str:
    return {list: "an array", str: "a text", bool: "true or false", type(None): "null"}.get(type(value), "a number")
