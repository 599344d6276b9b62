"""Log entries as events, and events as WebSocket frames. Rendered once, however many clients there are. Pure: no database."""

import datetime as dt
import struct
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from brokoli_site.common.time import iso

# A batch is written to a client's socket at once, and this much may then wait in memory for a client that does not read.
BATCH_BYTES = 64 * 1024
# What an event shows of the data of its entry. The rest (which claim wrote it, which worker) is for operators, in the log.
_SHOWN_DATA = ("status", "row_count", "duration_ms", "percent")
_TEXT_FRAME = 0x81  # RFC 6455, 5.2: the last fragment, of a text


class Row(NamedTuple):
    """The columns of a log entry that an event is made of."""

    seq: int
    run_id: uuid.UUID
    node_id: str
    attempt: int | None
    kind: str
    level: str
    message: str
    data: dict[str, Any] | None
    timestamp: dt.datetime


class Event(NamedTuple):
    """What a client's filter asks about an event, and where its frame ends in the bytes of its batch."""

    seq: int
    type: str
    run_id: str
    pipeline_id: str
    end: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Events in order, with their frames one after the other in `blob`."""

    events: tuple[Event, ...]
    blob: bytes

    @property
    def last(self) -> int:
        """The `seq` of the last event."""
        return self.events[-1].seq

    def frames(self) -> Iterator[tuple[Event, memoryview]]:
        """Each event with its frame."""
        view, start = memoryview(self.blob), 0
        for event in self.events:
            yield event, view[start : event.end]
            start = event.end


def document(row: Row, pipeline_id: str) -> dict[str, Any]:
    """The event that clients see, without the fields that have no value."""
    found: dict[str, Any] = {"seq": row.seq, "type": row.kind, "run_id": str(row.run_id), "pipeline_id": pipeline_id}
    if row.node_id:
        found["node_id"] = row.node_id
        if row.attempt is not None:
            found["attempt"] = row.attempt
    data = row.data or {}
    found |= {name: data[name] for name in _SHOWN_DATA if data.get(name) is not None}
    found |= {"level": row.level, "message": row.message}
    if data.get("error"):
        found["error"] = data["error"]
    found["timestamp"] = iso(row.timestamp)
    return found


def batches(rows: Iterable[tuple[Row, str]]) -> list[Batch]:
    """Rows with their pipeline ids, in order, as batches of at most `BATCH_BYTES`; an event that is longer is one by itself."""
    found: list[Batch] = []
    events: list[Event] = []
    blob = bytearray()
    for row, pipeline_id in rows:
        frame = text_frame(orjson.dumps(document(row, pipeline_id)))
        if events and len(blob) + len(frame) > BATCH_BYTES:
            found.append(Batch(tuple(events), bytes(blob)))
            events, blob = [], bytearray()
        blob += frame
        events.append(Event(row.seq, row.kind, str(row.run_id), pipeline_id, len(blob)))
    if events:
        found.append(Batch(tuple(events), bytes(blob)))
    return found


def text_frame(payload: bytes) -> bytes:
    """An unmasked text frame, as servers send them (RFC 6455, 5.2): the same bytes for every client."""
    length = len(payload)
    if length < 126:
        return bytes((_TEXT_FRAME, length)) + payload
    if length < 1 << 16:
        return struct.pack("!BBH", _TEXT_FRAME, 126, length) + payload
    return struct.pack("!BBQ", _TEXT_FRAME, 127, length) + payload


def payloads(blob: bytes) -> Sequence[str]:
    """The texts of frames that `text_frame` made: for servers that frame by themselves."""
    found, at = [], 0
    while at < len(blob):
        length, at = blob[at + 1], at + 2
        if length == 126:
            (length,), at = struct.unpack_from("!H", blob, at), at + 2
        elif length == 127:
            (length,), at = struct.unpack_from("!Q", blob, at), at + 8
        found.append(blob[at : at + length].decode())
        at += length
    return found
