"""The engine writes what nodes return, stops what must stop, and tells what went wrong in sentences without paths of the host."""

import errno
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import duckdb
import pyarrow.compute
import pyarrow.parquet
import pytest

from brokoli_site.common.errors import BadRequest, BrokoliError, NodeCancelled, NodeError, NodeTimeout, TransientNodeError, Unavailable
from pipelines.nodes.base import NodeContext, PassThrough, Query, Result, Stop, Written
from runs import faults
from runs.engine import NodeResult, RunSession
from runs.output import Attempts
from tests.engine.conftest import MIB, Plant, make_plant
from tests.patience import within

ENDLESS = "SELECT sum(a.i * b.i) AS s FROM range(10_000_000) a(i), range(10_000_000) b(i)"


def fail(error: BaseException) -> Result:
    raise error


# --- outputs ---


def test_an_output_is_an_artifact_with_its_facts(plant: Plant, session: RunSession) -> None:
    result = plant.run(session, "SELECT i AS id, 'x' AS name FROM range(3) t(i)")
    facts = result.output
    assert facts is not None
    assert (result.row_count, facts.row_count, facts.artifact) == (3, 3, "run/1.1.parquet")
    assert facts.schema == [{"name": "id", "type": "BIGINT"}, {"name": "name", "type": "VARCHAR"}]
    assert facts.byte_count == plant.store.size("run/1.1.parquet")
    assert plant.store.verify("run/1.1.parquet", facts.byte_count)
    assert plant.files() == ["run/1.1.parquet"]


def test_other_programs_read_the_artifact(plant: Plant, session: RunSession) -> None:
    plant.run(session, "SELECT i AS id, 'name ' || i AS name, DATE '2024-01-15' AS day, 1.5::DECIMAL(5, 2) AS price FROM range(10_000) t(i)")
    table = pyarrow.parquet.read_table(plant.store.path("run/1.1.parquet"))
    assert table.num_rows == 10_000
    assert table.column("id").to_pylist() == list(range(10_000))


def test_inputs_are_views_in_edge_order(plant: Plant, session: RunSession) -> None:
    first = plant.run(session, "SELECT 1 AS a", key="run/1.1.parquet")
    second = plant.run(session, "SELECT 2 AS a", key="run/2.1.parquet")
    both = plant.run(session, "SELECT input.a AS x, input_2.a AS y FROM input, input_2", first, second, key="run/3.1.parquet")
    assert plant.rows(both) == [[1, 2]]


def test_parameters_are_bound(plant: Plant, session: RunSession) -> None:
    result = plant.run(session, lambda context: Query("SELECT $a AS a, $b AS b", {"a": "x'; DROP", "b": 3}))
    assert plant.rows(result) == [["x'; DROP", 3]]


@pytest.mark.parametrize(
    ("sql", "kind", "value"),
    [
        ("SELECT sum(i) AS s FROM range(10) t(i)", "BIGINT", 45),
        ("SELECT sum(i) AS s FROM (VALUES (9223372036854775807), (1)) t(i)", "DECIMAL(38,0)", "9223372036854775808"),
        ("SELECT 1::UHUGEINT AS s", "BIGINT", 1),
    ],
)
def test_integers_of_128_bits_keep_every_digit(plant: Plant, session: RunSession, sql: str, kind: str, value: object) -> None:
    result = plant.run(session, sql)
    assert result.output is not None
    assert result.output.schema == [{"name": "s", "type": kind}]
    assert plant.rows(result) == [[value]]


def test_the_order_of_a_query_is_kept(plant: Plant, session: RunSession) -> None:
    result = plant.run(session, "SELECT i, sum(i) OVER () AS wide FROM range(300_000) t(i) ORDER BY i % 10 DESC, i")
    ordered = pyarrow.parquet.read_table(plant.store.path("run/1.1.parquet"), columns=["i"]).column("i").to_pylist()
    assert ordered == sorted(range(300_000), key=lambda number: (-(number % 10), number))
    assert plant.rows(result)[0][0] == 9


def test_what_passes_through_or_is_written_names_the_input(plant: Plant, session: RunSession) -> None:
    first = plant.run(session, "SELECT 1 AS a")
    unchanged = {"columns": [{"column": "a", "from": [{"node_id": "n1", "column": "a"}], "transformation": "identity"}], "indirect": []}
    assert plant.run(session, lambda context: PassThrough(), first) == NodeResult(1, reuses="n1", lineage=unchanged)
    assert plant.run(session, lambda context: Written(7), first) == NodeResult(7, reuses="n1", lineage=unchanged)
    alone = plant.run(session, lambda context: Written(7))
    assert (alone.row_count, alone.reuses) == (7, None)
    assert alone.output is not None
    assert alone.output.preview["rows"] == [[7]]


def test_a_query_may_recover(plant: Plant, session: RunSession) -> None:
    def again(error: duckdb.Error) -> Query:
        assert "Could not convert" in str(error)
        return Query("SELECT 'kept' AS a")

    assert plant.rows(plant.run(session, lambda context: Query("SELECT 'x'::INTEGER AS a", recover=again))) == [["kept"]]


@pytest.mark.parametrize(
    ("sql", "stops", "ends"),
    [
        ("SELECT 1 AS a", False, None),
        ("SELECT 'x'::INTEGER AS a", False, NodeError),
        ("SELECT 1 AS a", True, NodeCancelled),
    ],
    ids=["success", "failure", "stopped before its first row"],
)
def test_what_a_query_reads_from_is_closed_once_however_it_ends(
    plant: Plant, session: RunSession, sql: str, stops: bool, ends: type[BrokoliError] | None
) -> None:
    closed: list[str] = []

    def work(context: NodeContext) -> Query:
        if stops:
            context.stop.stop(NodeCancelled())
        return Query(sql, close=lambda: closed.append("closed"))

    with pytest.raises(ends) if ends else nullcontext():
        plant.run(session, work)
    assert closed == ["closed"]


def test_what_is_removed_of_a_failed_attempt_is_not_the_next(tmp_path: Path) -> None:
    """DuckDB removes what a failed COPY wrote, sometimes only when the next one has written already."""
    target = tmp_path / ".1.1.parquet.abcd.draft"
    attempts = Attempts(target)
    with pytest.raises(duckdb.ConversionException), attempts.path() as first:
        raise duckdb.ConversionException("Could not convert")
    with attempts.path() as second:
        second.write_text("kept")
        first.unlink(missing_ok=True)
        target.unlink(missing_ok=True)
    assert target.read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    assert all(path.name.endswith(".draft") for path in (first, second)), "what a killed worker leaves is collected by this name"


def test_the_scratch_folder_goes_with_the_node(plant: Plant, session: RunSession) -> None:
    made: list[Path] = []

    def work(context: NodeContext) -> Query:
        made.append(context.scratch())
        (made[0] / "file").write_text("x")
        return Query("SELECT 1 AS a")

    plant.run(session, work)
    assert not made[0].exists()


# --- failures ---


@pytest.mark.parametrize("error", [BadRequest("a sentence of ours"), Unavailable("a sentence of ours")])
def test_whether_to_try_again_is_decided_by_the_class_of_the_error(error: BrokoliError) -> None:
    """Also where the error is none of a node's own."""
    known = faults.of(error, faults.PublicNames())
    assert known is not None
    assert (known.message, known.retryable) == ("a sentence of ours", error.retryable)


@pytest.mark.parametrize(
    ("work", "words"),
    [
        ("SELECT 'x'::INTEGER AS a", "Could not convert string 'x' to INT32. TRY_CAST gives null"),
        ("SELECT nope FROM input", 'Referenced column "nope" not found'),
        (lambda context: fail(NodeError("as it is")), "as it is"),
        (lambda context: fail(BadRequest("a sentence of ours")), "a sentence of ours"),
        (lambda context: fail(KeyError("x")), "The node type 'scripted' failed unexpectedly (KeyError)"),
        (lambda context: fail(RecursionError()), "failed unexpectedly (RecursionError)"),
        (lambda context: fail(MemoryError()), faults.OUT_OF_MEMORY),
        (
            lambda context: fail(PermissionError(errno.EACCES, "Permission denied", "/secret/place")),
            "Reading or writing a file failed: permission denied.",
        ),
        (lambda context: "nonsense", "returned str, which is no result"),
    ],
)
def test_a_failure_is_a_sentence_and_leaves_nothing(plant: Plant, session: RunSession, work: object, words: str) -> None:
    first = plant.run(session, "SELECT 1 AS a")
    with pytest.raises(NodeError) as caught:
        plant.run(session, work, first, key="run/2.1.parquet")  # type: ignore[arg-type]
    assert words in caught.value.message
    assert "LINE 1" not in caught.value.message
    assert plant.files() == ["run/1.1.parquet"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE])
def test_what_may_pass_is_worth_another_try(plant: Plant, session: RunSession, number: int) -> None:
    with pytest.raises(TransientNodeError):
        plant.run(session, lambda context: fail(OSError(number, "trouble")))


def test_a_full_disk_is_told_and_leaves_nothing(plant: Plant, session: RunSession, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("brokoli_site.common.durable.sync", full)
    with pytest.raises(TransientNodeError, match="The disk is full"):
        plant.run(session, "SELECT 1 AS a")
    assert plant.files() == []


def test_a_disk_that_has_no_room_for_the_runs_folder_is_told_too(plant: Plant, session: RunSession, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "mkdir", full)
    with plant.engine.open_run("run") as other, pytest.raises(TransientNodeError, match="The disk is full"):
        plant.run(other, "SELECT 1 AS a")


def test_an_input_that_is_gone_is_named(plant: Plant, session: RunSession) -> None:
    first = plant.run(session, "SELECT 1 AS a")
    plant.store.delete("run/1.1.parquet")
    with pytest.raises(NodeError, match=r"^The output of node 'Node 1' is gone from the artifact store"):
        plant.run(session, "SELECT * FROM input", first, key="run/2.1.parquet")


@pytest.mark.parametrize("trusted", [True, False])
def test_a_damaged_input_is_named_without_its_path(plant: Plant, session: RunSession, trusted: bool) -> None:
    first = plant.run(session, "SELECT i AS a FROM range(100) t(i)")
    content = plant.store.path("run/1.1.parquet").read_bytes()
    plant.store.path("run/1.1.parquet").write_bytes(content[:-10])
    with pytest.raises(NodeError) as caught:
        plant.run(session, "SELECT * FROM input", first, key="run/2.1.parquet", trusted=trusted)
    assert "the output of node 'Node 1'" in caught.value.message
    assert str(plant.root) not in caught.value.message


def test_paths_of_the_host_are_cut_from_sentences(plant: Plant, session: RunSession) -> None:
    for path in (plant.root / "data/in/orders.csv", plant.store.root / "run/9.9.parquet"):
        with pytest.raises(NodeError) as caught:
            plant.run(session, f"SELECT error('broken: {path} and more')")
        assert caught.value.message == f"broken: {path.name} and more"


# --- stopping ---


@pytest.mark.parametrize("trusted", [True, False])
def test_a_cancelled_query_ends_within_a_second(plant: Plant, session: RunSession, trusted: bool) -> None:
    stop, working = Stop(), threading.Event()
    took: list[float] = []

    def cancel() -> None:
        working.wait(30)
        took.append(time.monotonic())
        stop.stop(NodeCancelled("The run was cancelled."))

    def work(context: NodeContext) -> Query:
        working.set()
        return Query(ENDLESS)

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(NodeCancelled, match="The run was cancelled"):
        plant.run(session, work, stop=stop, trusted=trusted)
    canceller.join()
    assert time.monotonic() - took[0] < within(1)
    assert plant.files() == []


def test_a_query_that_takes_too_long_ends_within_a_second_of_its_deadline(plant: Plant, session: RunSession) -> None:
    started = time.monotonic()
    with pytest.raises(NodeTimeout, match="longer than its timeout of 300ms"):
        plant.run(session, ENDLESS, stop=Stop(timeout_seconds=0.3))
    assert 0.3 <= time.monotonic() - started < 0.3 + within(1)


def test_a_node_that_was_stopped_before_it_began_does_nothing(plant: Plant, session: RunSession) -> None:
    stop = Stop()
    stop.stop(NodeCancelled())
    with pytest.raises(NodeCancelled):
        plant.run(session, lambda context: fail(AssertionError("it ran")), stop=stop)


def test_a_stop_that_finds_no_query_is_not_lost(plant: Plant, session: RunSession) -> None:
    """The first interrupt meets nothing to interrupt: the node is between two queries."""
    stop = Stop()

    def work(context: NodeContext) -> Query:
        context.stop.stop(NodeCancelled())
        context.connection.execute(ENDLESS)
        return Query("SELECT 1 AS a")

    with pytest.raises(NodeCancelled):
        plant.run(session, work, stop=stop)


def test_stopping_one_node_leaves_the_others_alone(plant: Plant, session: RunSession) -> None:
    stop = Stop(timeout_seconds=0.2)
    results: list[NodeResult] = []
    other = threading.Thread(
        target=lambda: results.append(plant.run(session, "SELECT sum(i) AS s FROM range(300_000_000) t(i)", key="run/2.1.parquet"))
    )
    other.start()
    with pytest.raises(NodeTimeout):
        plant.run(session, ENDLESS, stop=stop)
    other.join(60)
    assert plant.rows(results[0]) == [["44999999850000000"]]


def test_many_nodes_at_once(plant: Plant, session: RunSession) -> None:
    first = plant.run(session, "SELECT i FROM range(100_000) t(i)", key="run/0.1.parquet")
    results: dict[int, NodeResult] = {}

    def work(number: int) -> None:
        results[number] = plant.run(
            session, f"SELECT sum(i) + {number} AS s FROM input", first, key=f"run/{number}.1.parquet", trusted=number % 2 == 0
        )

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 17)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {number: plant.rows(result) for number, result in results.items()} == {number: [[4999950000 + number]] for number in range(1, 17)}


# --- limits ---


def test_data_larger_than_memory_spills_and_comes_out_right(tmp_path: Path) -> None:
    plant = make_plant(tmp_path, memory_bytes=192 * MIB, concurrent_runs=1)
    rows = 1_500_000
    spilled: list[int] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.01):
            spilled.append(sum(path.stat().st_size for path in plant.engine.workspace.path.rglob("*.tmp") if path.exists()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with plant.engine.open_run("run") as session:
            big = plant.run(
                session, f"SELECT i AS id, hash(i) AS h, md5(i::VARCHAR) || md5((i + 1)::VARCHAR) AS t FROM range({rows}) t(i)", key="run/1.1.parquet"
            )
            plant.run(session, "SELECT * FROM input ORDER BY h", big, key="run/2.1.parquet")
    finally:
        ended.set()
        watcher.join()
        plant.engine.close()
    sorted_rows = pyarrow.parquet.read_table(plant.store.path("run/2.1.parquet"), columns=["id", "h"])
    assert len(set(sorted_rows.column("id").to_pylist())) == rows
    hashes = sorted_rows.column("h")
    assert pyarrow.compute.all(pyarrow.compute.less_equal(hashes[:-1], hashes[1:])).as_py()
    assert max(spilled) > 50 * MIB


def test_a_value_that_no_memory_holds_is_told(tmp_path: Path) -> None:
    plant = make_plant(tmp_path, memory_bytes=128 * MIB, concurrent_runs=1)
    with plant.engine.open_run("run") as session, pytest.raises(NodeError) as caught:
        plant.run(session, "SELECT list(i) AS l FROM range(50_000_000) t(i)")
    plant.engine.close()
    assert caught.value.message == faults.OUT_OF_MEMORY
    assert plant.files() == []


def test_the_parts_of_the_memory_make_the_whole(tmp_path: Path) -> None:
    limits = make_plant(tmp_path, memory_bytes=4096 * MIB, concurrent_runs=4).engine.limits
    assert limits.trusted_memory + 4 * limits.sandbox_memory == 4096 * MIB
