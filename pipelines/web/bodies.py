"""An answer becomes a file: decompressed, UTF-8, bounded; and what kind of data it holds."""

import codecs
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from threading import Lock
from typing import Protocol
from urllib.parse import urlsplit

from brokoli_site.common.errors import NodeError, TransientNodeError
from brokoli_site.common.outbound import Answer, TooMuch
from pipelines.nodes import json_files
from pipelines.nodes.unpacking import marked_encoding

FORMATS = ("json", "jsonl", "csv", "tsv")
_MEDIA_TYPES = {
    "text/csv": "csv",
    "application/csv": "csv",
    "text/tab-separated-values": "tsv",
    "application/json": "json",
    "text/json": "json",
    "application/x-ndjson": "jsonl",
    "application/ndjson": "jsonl",
    "application/jsonl": "jsonl",
    "application/jsonlines": "jsonl",
    "application/x-jsonlines": "jsonl",
    "application/json-lines": "jsonl",
    "application/json-seq": "jsonl",
}
_GZIP_MARK = b"\x1f\x8b"
_PIECE = 1024 * 1024


class Storage(Protocol):
    """Where answers are kept while the node runs."""

    def new(self) -> Path: ...

    def drop(self, path: Path) -> None: ...


@dataclass
class Budget:
    """The bytes, decompressed, that a node may receive in all. Thread-safe."""

    most: int
    received: int = 0
    _lock: Lock = field(default_factory=Lock)

    def add(self, count: int) -> None:
        """Errors: `NodeError` once they are too many."""
        with self._lock:
            self.received += count
            if self.received > self.most:
                raise NodeError(
                    f"The answers are larger than {size(self.most)} together, the most that `max_bytes` allows. Ask for less, or raise it."
                )


@dataclass(frozen=True, slots=True)
class Body:
    """A received body: where its plain text is, and what its head said."""

    path: Path
    size: int
    media_type: str
    url: str
    link: str


def save(answer: Answer, path: Path, budget: Budget, most: int, encoding: str | None, *, plain: bool) -> Body:
    """Write the answer's body to `path`: decompressed (also a gzip file), and as UTF-8 without a mark unless `plain` is False.

    Errors: `NodeError`; those of `Answer.chunks`.
    """
    head = Message()
    head["Content-Type"] = answer.headers.get("Content-Type", "")
    encoding = encoding or str(head.get_param("charset") or "utf-8")
    count = 0
    try:
        chunks: Iterable[bytes] = answer.chunks(most)
        with path.open("wb") as out:
            for piece in _text(_inflated(chunks), encoding) if plain else chunks:
                count += len(piece)
                budget.add(len(piece))
                _check_size(count, most)
                out.write(piece)
    except TooMuch:
        _check_size(most + 1, most)
    except BaseException:
        budget.add(-count)  # what is asked for again counts once
        raise
    return Body(path, count, head.get_content_type() if answer.headers.get("Content-Type") else "", answer.url, answer.headers.get("Link", ""))


def kind_of(body: Body, given: str) -> str:
    """One of `FORMATS`: as the config says, else the content type, the name, the first character. Errors: `NodeError`."""
    if given:
        return given
    suffix = urlsplit(body.url).path.lower().removesuffix(".gz").rpartition(".")[2]
    named = {"ndjson": "jsonl"}.get(suffix, suffix)
    kind = _MEDIA_TYPES.get(body.media_type) or ("json" if body.media_type.endswith("+json") else "") or (named if named in FORMATS else "")
    if not kind and json_files.first_character(body.path) in ("[", "{", ""):
        kind = "json"
    if not kind:
        what = f"is of type {body.media_type[:60]}" if body.media_type else "has no content type"
        raise NodeError(f"The answer {what}, which is not known to be data. Set `format` to one of {', '.join(FORMATS)}, or correct the address.")
    return kind


def check_encoding(body: Body) -> None:
    """Errors: `NodeError` for text whose first bytes say that it is not UTF-8."""
    if other := marked_encoding(body.path):
        raise NodeError(f"The answer is not UTF-8: its first bytes say {other}. Set `encoding` to {other}.")


def size(count: int) -> str:
    """Bytes for people."""
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}".replace(".0 ", " ")
    return f"{count} bytes"


def _check_size(count: int, most: int) -> None:
    if count > most:
        raise NodeError(f"An answer is larger than {size(most)}, the most that is allowed here. Ask for smaller pages, or raise `max_page_bytes`.")


def _inflated(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """A gzip file's content, piece by piece; anything else as it is."""
    found = b""
    source = iter(chunks)
    for chunk in source:
        found += chunk
        if len(found) >= len(_GZIP_MARK):
            break
    if not found.startswith(_GZIP_MARK):
        yield found
        yield from source
        return
    yield from _gunzipped(found, source)


def _gunzipped(found: bytes, source: Iterator[bytes]) -> Iterator[bytes]:
    """Every member of the file. A piece is never larger than `_PIECE`, however much its few bytes stand for."""
    member = zlib.decompressobj(31)
    try:
        while True:
            while found and not member.eof:
                yield member.decompress(found, _PIECE)
                found = member.unconsumed_tail
            if member.eof and (found := member.unused_data.lstrip(b"\0")):
                member = zlib.decompressobj(31)
                continue
            more = next(source, None)
            if more is None:
                break
            found = found + more
    except zlib.error as error:
        raise NodeError("The answer begins as gzip data and is none.") from error
    if not member.eof:
        raise TransientNodeError("The answer is cut off: its gzip data ends in the middle.")


def _text(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """As UTF-8, without a byte order mark."""
    try:
        utf8 = codecs.lookup(encoding).name in ("utf-8", "ascii")
        decoder = codecs.getincrementaldecoder(encoding)("strict")
    except LookupError:
        raise NodeError(f"The answer is encoded as '{encoding[:40]}', which is not known. Set `encoding`.") from None
    first = True
    for chunk in chunks:
        piece = chunk if utf8 else _decoded(decoder, chunk, encoding)
        yield piece.removeprefix(codecs.BOM_UTF8) if first else piece
        first = first and not piece
    if not utf8:
        yield _decoded(decoder, b"", encoding, final=True)


def _decoded(decoder: codecs.IncrementalDecoder, chunk: bytes, encoding: str, *, final: bool = False) -> bytes:
    try:
        return decoder.decode(chunk, final).encode()
    except UnicodeError as error:
        raise NodeError(f"The answer is not valid {encoding}. Set `encoding` to the one that it has.") from error
