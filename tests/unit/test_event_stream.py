"""Events, their frames, filters, and the ring that clients share. No database."""

import datetime as dt
import json
import uuid
from typing import Any

import pytest
from websockets.frames import Frame
from websockets.streams import StreamReader

from brokoli_site.common.errors import BadRequest
from runs.events.filters import MAX_SEQ, TYPES, EventFilter, Subscription, read_message
from runs.events.frames import BATCH_BYTES, Batch, Row, batches, document, payloads, text_frame
from runs.events.ring import Ring

RUN, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)
PIPELINE = str(uuid.UUID(int=3))
MOMENT = dt.datetime(2024, 1, 15, 6, 0, 0, 123456, tzinfo=dt.UTC)


def row(seq: int, message: str = "hello", **changes: Any) -> Row:
    columns: dict[str, Any] = {"run_id": RUN, "node_id": "", "attempt": None, "kind": "log", "level": "info", "data": None, "timestamp": MOMENT}
    return Row(seq=seq, message=message, **(columns | changes))


def batch(*seqs: int, **changes: Any) -> Batch:
    (found,) = batches((row(seq, **changes), PIPELINE) for seq in seqs)
    return found


def seqs(blob: bytes) -> list[int]:
    return [json.loads(text)["seq"] for text in payloads(blob)]


def parsed(blob: bytes) -> list[bytes]:
    """The payloads as another implementation of RFC 6455 reads them."""
    reader = StreamReader()
    reader.feed_data(blob)
    reader.feed_eof()
    found = []
    while len(reader.buffer):
        parser = Frame.parse(reader.read_exact, mask=False)
        try:
            while True:
                next(parser)
        except StopIteration as ended:
            assert (ended.value.opcode, ended.value.fin) == (1, True)
            found.append(bytes(ended.value.data))
    return found


# --- events -------------------------------------------------------------------------------------------------------


def test_an_event_shows_what_its_entry_tells_and_nothing_of_how_it_was_written() -> None:
    data = {"status": "success", "row_count": 0, "duration_ms": 12, "epoch": 3, "worker": "host-1"}

    shown = document(row(7, "Node completed", node_id="read", attempt=2, kind="node.completed", data=data), PIPELINE)

    assert shown == {
        "seq": 7,
        "type": "node.completed",
        "run_id": str(RUN),
        "pipeline_id": PIPELINE,
        "node_id": "read",
        "attempt": 2,
        "status": "success",
        "row_count": 0,
        "duration_ms": 12,
        "level": "info",
        "message": "Node completed",
        "timestamp": "2024-01-15T06:00:00.123Z",
    }


def test_what_has_no_value_is_left_out() -> None:
    shown = document(row(1, kind="run.cancelled", data={"status": "cancelled", "duration_ms": None, "error": ""}), PIPELINE)

    assert shown.keys() == {"seq", "type", "run_id", "pipeline_id", "status", "level", "message", "timestamp"}


# --- frames -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 200_000])
def test_frames_of_every_length_are_read_by_others(length: int) -> None:
    assert parsed(text_frame(b"x" * length)) == [b"x" * length]
    assert payloads(text_frame(b"x" * length)) == ["x" * length]


def test_characters_of_many_bytes_count_as_bytes() -> None:
    (found,) = batches([(row(1, "naïve 数据 🥦" * 40), PIPELINE)])

    assert [json.loads(text)["message"] for text in parsed(found.blob)] == ["naïve 数据 🥦" * 40]
    assert payloads(found.blob) == [text.decode() for text in parsed(found.blob)]


def test_batches_are_bounded_and_lose_nothing() -> None:
    found = batches((row(seq, "x" * (BATCH_BYTES * 2 if seq == 3 else 20_000)), PIPELINE) for seq in range(1, 9))

    assert [[event.seq for event in piece.events] for piece in found] == [[1, 2], [3], [4, 5, 6], [7, 8]]
    assert all(len(piece.blob) <= BATCH_BYTES for piece in found if piece.last != 3)
    for piece in found:
        assert seqs(piece.blob) == [event.seq for event in piece.events]
        assert [seqs(bytes(frame)) for _, frame in piece.frames()] == [[event.seq] for event in piece.events]


# --- filters ------------------------------------------------------------------------------------------------------


def test_who_wants_everything_gets_the_shared_bytes() -> None:
    found = batch(1, 2, 3)

    assert EventFilter().blob(found, 0) is found.blob
    assert seqs(EventFilter().blob(found, 2)) == [3]
    assert EventFilter().blob(found, 3) == b""


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (EventFilter(run_id=str(RUN)), [1, 2]),
        (EventFilter(run_id=str(OTHER)), [3]),
        (EventFilter(pipeline_id=PIPELINE), [1, 2, 3]),
        (EventFilter(pipeline_id=str(OTHER)), []),
        (EventFilter(types=frozenset({"run.failed"})), [2]),
        (EventFilter(run_id=str(OTHER), types=frozenset({"run.failed"})), []),
    ],
)
def test_filters(wanted: EventFilter, expected: list[int]) -> None:
    (found,) = batches([(row(1), PIPELINE), (row(2, kind="run.failed"), PIPELINE), (row(3, run_id=OTHER), PIPELINE)])

    assert seqs(wanted.blob(found, 0)) == expected


def test_messages_of_clients() -> None:
    assert read_message('{"subscribe": {}}') == Subscription(EventFilter())
    text = json.dumps({"subscribe": {"run_id": str(RUN), "pipeline_id": PIPELINE, "types": ["log", "log"], "since": 0}})
    assert read_message(text) == Subscription(EventFilter(str(RUN), PIPELINE, frozenset({"log"})), 0)
    assert read_message(text).filter.shown() == {"run_id": str(RUN), "pipeline_id": PIPELINE, "types": ["log"]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no such message"),
        ("{", "not JSON"),
        ("NaN", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"subscribe": {"a": "\\ud800"}}', "not JSON"),
        ("\ud800", "not JSON"),
        ("[]", "no such message"),
        ("{}", "no such message"),
        ('{"subscribe": []}', "no such message"),
        ('{"subscribe": {}, "more": 1}', "no such message"),
        ('{"subscribe": {"runid": 1}}', '"runid"'),
        ('{"subscribe": {"run_id": "1"}}', '"run_id"'),
        ('{"subscribe": {"pipeline_id": 5}}', '"pipeline_id"'),
        ('{"subscribe": {"types": []}}', '"types"'),
        ('{"subscribe": {"types": "log"}}', '"types"'),
        ('{"subscribe": {"types": ["logs"]}}', '"logs" is none of'),
        ('{"subscribe": {"types": [{}]}}', '"types"'),
        ('{"subscribe": {"since": -1}}', '"since"'),
        ('{"subscribe": {"since": true}}', '"since"'),
        ('{"subscribe": {"since": 1.0}}', '"since"'),
        (json.dumps({"subscribe": {"since": MAX_SEQ + 1}}), '"since"'),
    ],
)
def test_bad_messages_are_told_what_is_accepted(text: str, said: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_message(text)

    assert said in caught.value.message
    assert len(caught.value.message) < 600


def test_types_are_those_that_the_contract_names_and_ours() -> None:
    assert {"run.created", "run.started", "run.completed", "run.failed", "run.cancelled"} < set(TYPES)
    assert {"node.started", "node.completed", "node.failed", "node.skipped", "log"} < set(TYPES)


# --- the ring -----------------------------------------------------------------------------------------------------


def test_a_place_is_the_first_batch_with_something_after_it() -> None:
    ring = Ring()
    ring.open(10)
    assert (ring.place(10), ring.place(9), ring.place(99)) == (0, None, 0)

    ring.extend([batch(11, 12), batch(15)], 15)

    assert [ring.place(seq) for seq in (9, 10, 11, 12, 13, 14, 15, 99)] == [None, 0, 0, 1, 1, 1, 2, 2]
    assert ring.batch(2) is None
    assert (ring.start, ring.frontier) == (10, 15)


@pytest.mark.parametrize("bounds", [{"most_events": 4}, {"most_bytes": 850}])
def test_the_oldest_go_and_a_place_that_went_is_known(bounds: dict[str, int]) -> None:
    ring = Ring(**bounds)
    ring.open(0)
    ring.extend([batch(seq, seq + 1) for seq in (1, 3, 5, 7)], 8)

    assert ring.start == 4
    assert [ring.place(seq) for seq in (3, 4, 6, 8)] == [None, 2, 3, 4]
    with pytest.raises(LookupError):
        ring.batch(1)
    assert ring.batch(2) is not None
    assert ring.batch(4) is None


def test_the_newest_batch_stays_however_large() -> None:
    ring = Ring(most_bytes=1)
    ring.open(0)
    ring.extend([batch(1), batch(2)], 2)

    assert (ring.start, ring.place(1)) == (1, 1)


def test_listeners_hear_of_everything() -> None:
    class Heard:
        times = 0

        def set(self) -> None:
            self.times += 1

    ring, heard = Ring(), Heard()
    ring.listeners.add(heard)
    ring.open(0)
    ring.extend([batch(1)], 1)
    ring.close()

    assert heard.times == 3
    assert ring.closed
