"""The contract that every node type keeps, through the real engine. A new type passes by adding one file of cases.

How to add a type: write `tests/contracts/cases/<type>.py` with `CASES = Cases(…)` (see `case.py`; `cases/union.py` is a
short one to start from). The suite runs over `registry.all()` and fails for a type that has no cases. Per type:

- `valid`: configs with inputs and what comes out; each is checked when it is saved, run, and compared with what was foretold;
- `invalid`: configs that are refused, with the field and some words of the sentence; at save and at run;
- `failing`: good configs that meet bad data; nothing may be left behind;
- `typical`: gives back any data set it is given. The suite feeds it emptiness, nulls, odd names and values, 2,000 columns,
  a million rows, little memory, and runs it twice;
- `slow`: works for seconds, to be cancelled and to run out of time.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from brokoli_site.common.addresses import Allowed
from brokoli_site.common.errors import NodeCancelled, NodeError, NodeTimeout
from pipelines.nodes import registry
from pipelines.nodes.base import NodeType, Schema, Stop
from pipelines.spec import NodeSpec
from tests.contracts.all_cases import CASES, TYPES, missing
from tests.contracts.case import Cases, Failing, Given, Invalid, Row, Valid
from tests.contracts.workshop import Outcome, Workshop, problems_at_save
from tests.patience import within
from tests.writes import everything_in, recorded_writes

JUNK: tuple[Any, ...] = (None, True, 0, -1, 1.5, "", "x", "(", [], [None], [[]], {}, {"x": None}, [{"type": 1}, "f(", 3], "\u202e", "x" * 5000)
WIDE = "SELECT " + ", ".join(f"i + {number} AS c{number}" for number in range(2000)) + " FROM range(3) t(i)"
LONG = "SELECT i AS id, i % 1000 AS k, i * 0.5 AS amount, 'name ' || i AS name FROM range(1_000_000) t(i)"
NULLS = "SELECT i AS id, CAST(NULL AS VARCHAR) AS name, CAST(NULL AS DOUBLE) AS amount, CAST(NULL AS DATE) AS day FROM range(5) t(i)"
EMPTY = "SELECT i AS id, 'x' AS name, DATE '2024-01-01' AS day FROM range(0) t(i)"
ODD = """SELECT * FROM (VALUES
    (1, 'Zoë', 'a"b', '🥦', 'tab	inside'), (2, 'line\nbreak', 'it''s', '\u202eabc', 'x\\y'), (3, '', ' ', 'NULL', '日本語'))
    t(id, "naïve name", "quo""ted", "semi;colon", "ключ")"""


def each(part: Callable[[Cases], Any]) -> list[Any]:
    """Parameters (type name, case) for every case in that part."""
    return [
        pytest.param(name, case, id=f"{name}-{index}{'-' + case.name if getattr(case, 'name', '') else ''}")
        for name, cases in CASES.items()
        for index, case in enumerate(part(cases))
    ]


each_type = pytest.mark.parametrize("name", TYPES)
# Of these a million rows go to another program and back, which takes seconds.
OUTSIDE = frozenset({"migrate", "sink_api", "sink_db", "source_api", "source_db"})


@pytest.fixture(autouse=True)
def every_type_is_on(settings: Any) -> None:
    """Also those that are off on a new server; servers for nodes are on loopback."""
    settings.DISABLED_NODE_TYPES = ()
    settings.ALLOWED_NETWORKS = Allowed.read("127.0.0.0/8, ::1")  # for those that ask servers of the tests


def test_every_registered_type_has_cases() -> None:
    assert not missing(), f"write tests/contracts/cases/<type>.py for: {missing()}"


# --- what a type says of itself -----------------------------------------------------------------------------------


@each_type
def test_a_type_describes_itself(name: str) -> None:
    node_type = registry.get(name)
    assert node_type.label
    assert node_type.help.endswith(".")
    assert 0 <= node_type.ports.least <= (node_type.ports.most if node_type.ports.most is not None else node_type.ports.least)
    assert node_type.sql_keys <= set(node_type.Config.model_fields)


@each_type
def test_the_config_has_a_json_schema_that_explains_every_key(name: str) -> None:
    schema = registry.get(name).Config.model_json_schema()
    assert schema["type"] == "object"
    assert schema["description"]
    assert json.loads(json.dumps(schema, allow_nan=False)) == schema
    unexplained = [key for key, about in schema["properties"].items() if not about.get("description")]
    assert not unexplained


@each_type
def test_examples_fit_the_ports(name: str) -> None:
    ports = registry.get(name).ports
    for case in CASES[name].valid:
        assert ports.least <= len(case.inputs) <= (ports.most if ports.most is not None else len(case.inputs))


# --- configs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "pair"), each(lambda cases: cases.normalised))
def test_aliases_are_normalised(name: str, pair: tuple[dict[str, Any], dict[str, Any]]) -> None:
    written, kept = pair
    before = json.dumps(written)
    assert registry.get(name).normalise(written) == kept
    assert json.dumps(written) == before, "normalise changed the document that it was given"


@each_type
def test_normalising_twice_changes_nothing(name: str) -> None:
    node_type, cases = registry.get(name), CASES[name]
    configs = [case.config for case in (*cases.valid, *cases.invalid, *cases.failing)] + [written for written, _ in cases.normalised]
    for config in [*configs, *junk_configs(node_type)]:
        once = node_type.normalise(config)
        assert node_type.normalise(once) == once


@each_type
def test_junk_is_refused_with_sentences_and_never_breaks_anything(name: str) -> None:
    node_type = registry.get(name)
    schemas: list[list[Schema | None]] = [[None] * max(1, node_type.ports.least), [()] * max(1, node_type.ports.least)]
    for config in junk_configs(node_type):
        for inputs in schemas:
            for problem in problems_at_save(name, config, inputs):
                assert problem.message
                json.dumps(problem.message)


@each_type
def test_keys_of_the_future_are_kept(name: str) -> None:
    node_type = registry.get(name)
    config = node_type.Config.model_validate(node_type.normalise({**CASES[name].valid[0].config, "of_the_future": {"a": 1}}))
    assert (config.model_extra or {})["of_the_future"] == {"a": 1}


@pytest.mark.parametrize(("name", "case"), each(lambda cases: [case for case in cases.invalid if case.at_save]))
def test_a_wrong_config_is_refused_when_it_is_saved(name: str, case: Invalid, workshop: Workshop) -> None:
    schemas: list[Schema | None] = [workshop.table(sql).schema for sql in case.inputs]
    problems = problems_at_save(name, case.config, schemas or [None] * registry.get(name).ports.least)
    assert [problem.field for problem in problems if case.words in problem.message] == [case.field], problems
    if case.line is not None:
        assert [(one.line, one.column) for one in problems if case.words in one.message] == [(case.line, case.column)]


@pytest.mark.parametrize(("name", "case"), each(lambda cases: cases.invalid))
def test_a_wrong_config_is_refused_when_it_runs(name: str, case: Invalid, workshop: Workshop) -> None:
    if case.before:
        case.before(workshop)
    inputs = case.inputs or ["SELECT 1 AS id"] * registry.get(name).ports.least
    before = workshop.files()
    with pytest.raises(NodeError) as caught:
        workshop.run(name, Given(case.config, inputs, vault=case.vault), case.params)
    assert case.words in caught.value.message
    assert not case.field or case.field in caught.value.message
    assert not workshop.artifacts()
    assert workshop.files() == before


# --- runs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "case"), each(lambda cases: cases.valid))
def test_a_valid_config_gives_what_it_should(name: str, case: Valid, workshop: Workshop) -> None:
    if case.before:
        case.before(workshop)
    outcome = workshop.run(name, case, case.params)
    assert case.columns is None or outcome.columns == list(case.columns)
    assert case.types is None or [column.type for column in outcome.schema] == list(case.types)
    if case.rows is not None:
        assert_same(outcome.rows, list(case.rows), ordered=case.ordered)
    for words in case.logged:
        assert words in outcome.log.text
    if case.after:
        case.after(outcome, workshop)
    check_what_was_foretold(name, case, outcome, workshop)


def check_what_was_foretold(name: str, case: Valid, outcome: Outcome, workshop: Workshop) -> None:
    """A valid config has no problems when it is saved, and the columns that it announces are those that come out."""
    node_type = registry.get(name)
    assert problems_at_save(name, case.config, [None] * len(case.inputs)) == []
    schemas: list[Schema | None] = [workshop.table(sql).schema for sql in case.inputs]
    assert problems_at_save(name, case.config, schemas) == []
    config = node_type.normalise(case.config)
    analysis = node_type.analyse(NodeSpec("node", name, "The node", config), node_type.Config.model_validate(config), schemas)
    if analysis.schema is not None:
        assert analysis.schema == outcome.schema


@pytest.mark.parametrize(("name", "case"), each(lambda cases: cases.failing))
def test_bad_data_fails_the_node_with_a_sentence_and_leaves_nothing(name: str, case: Failing, workshop: Workshop) -> None:
    if case.before:
        case.before(workshop)
    before = workshop.files()
    with pytest.raises(NodeError) as caught:
        workshop.run(name, case, case.params)
    for words in case.words:
        assert words in caught.value.message
    assert str(workshop.folder.parent) not in caught.value.message, "the sentence names a path of the host"
    assert not workshop.artifacts()
    assert workshop.files() == before
    if case.after:
        case.after(workshop)


# --- any data -----------------------------------------------------------------------------------------------------


@each_type
@pytest.mark.parametrize("table", [EMPTY, NULLS, ODD, pytest.param(WIDE, marks=pytest.mark.slow)], ids=["empty", "nulls", "unicode", "2000 columns"])
def test_any_data_passes_unharmed(name: str, table: str, workshop: Workshop) -> None:
    rows = typical_rows(name, table, workshop)
    assert_same(rows, workshop.rows(f"FROM ({table})"), ordered=CASES[name].ordered)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in OUTSIDE else name for name in TYPES])
def test_a_million_rows_pass_in_little_memory(name: str, tmp_path: Path) -> None:
    workshop = Workshop(tmp_path, memory_mib=256)
    try:
        if CASES[name].refuses_many:
            with pytest.raises(NodeError, match=CASES[name].refuses_many):
                typical_sql(name, LONG, workshop)
            return
        rows = typical_sql(name, LONG, workshop)
        counted = workshop.rows(f"SELECT count(*), count(DISTINCT id), sum(k), sum(amount), count(DISTINCT name) FROM ({rows})")
        assert counted == workshop.rows(f"SELECT count(*), count(*), sum(k), sum(amount), count(*) FROM ({LONG})")
    finally:
        workshop.close()


@each_type
def test_the_same_inputs_give_the_same_output(name: str, workshop: Workshop) -> None:
    table = "SELECT i AS id, i % 7 AS k, 'v' || (i % 100) AS v FROM range(50_000) t(i)"
    first, second = (typical_rows(name, table, workshop) for _ in range(2))
    assert_same(first, second, ordered=CASES[name].ordered)


def typical_rows(name: str, table: str, workshop: Workshop) -> list[Row]:
    return workshop.rows(typical_sql(name, table, workshop))


def typical_sql(name: str, table: str, workshop: Workshop) -> str:
    """SQL of what the typical case makes of a data set: its output, or what it wrote."""
    cases = CASES[name]
    outcome = workshop.run(name, cases.typical(workshop, table))
    return cases.read_back(workshop) if cases.read_back else f"FROM {outcome.sql}"


# --- dry runs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "case"), each(lambda cases: cases.valid))
def test_a_dry_run_writes_nothing(name: str, case: Valid, workshop: Workshop) -> None:
    if case.before:
        case.before(workshop)
    before = everything_in(workshop.folder.parent)
    with recorded_writes() as writes:
        answer = workshop.dry_run(name, case, case.params)
    assert writes == []
    assert everything_in(workshop.folder.parent) == before
    assert answer["status"] in ("success", "skipped"), answer["error"]
    assert len(answer["rows"]) <= 10
    json.dumps(answer, allow_nan=False)


@each_type
def test_a_dry_run_gives_what_a_run_of_the_same_rows_gives(name: str, workshop: Workshop) -> None:
    answer = workshop.dry_run(name, CASES[name].typical(workshop, ODD), across=True)
    if answer["status"] == "skipped":
        assert "dry run" in answer["error"]
        return
    outcome = workshop.run(name, CASES[name].typical(workshop, ODD))
    assert answer["columns"] == outcome.columns
    assert [column["type"] for column in answer["schema"]] == [column.type for column in outcome.schema]
    assert_same([tuple(row.values()) for row in answer["rows"]], outcome.rows, ordered=CASES[name].ordered)


# --- stopping -----------------------------------------------------------------------------------------------------


@each_type
@pytest.mark.parametrize("busy_seconds", [0.0, 0.3], ids=["at its start", "in the middle"])
def test_a_cancelled_node_stops_within_a_second_and_leaves_nothing(name: str, busy_seconds: float, workshop: Workshop) -> None:
    given, stop = CASES[name].slow(workshop), Stop()
    workshop.task(name, given)  # makes the inputs before the clock starts
    before = workshop.files()
    with workshop.running(name, given, stop) as running:
        started, entered = time.process_time(), time.monotonic()
        # What works in a process of its own uses no time of ours.
        while time.process_time() - started < busy_seconds and time.monotonic() - entered < 5 * busy_seconds and running.thread.is_alive():
            running.thread.join(0.01)
        assert running.thread.is_alive(), "the slow case ended before it could be stopped"
        asked = time.monotonic()
        stop.stop(NodeCancelled("The run was cancelled."))
        running.thread.join(within(5))
        took = time.monotonic() - asked
    assert [type(error) for error in running.errors] == [NodeCancelled]
    assert took < within(1)
    assert not workshop.artifacts()
    assert workshop.files() == before


@each_type
def test_a_node_that_takes_too_long_is_stopped_and_says_so(name: str, workshop: Workshop) -> None:
    given = CASES[name].slow(workshop)
    workshop.task(name, given)
    before = workshop.files()
    started = time.monotonic()
    with pytest.raises(NodeTimeout, match="timeout of") as caught:
        workshop.run(name, given, stop=Stop(timeout_seconds=0.2))
    assert time.monotonic() - started < within(1) + 0.2
    assert caught.value.retryable
    assert not workshop.artifacts()
    assert workshop.files() == before


@each_type
def test_a_type_that_is_turned_off_does_not_run(name: str, workshop: Workshop, settings: Any) -> None:
    settings.DISABLED_NODE_TYPES = (name,)
    with pytest.raises(NodeError, match=f"'{name}' is turned off on this server"):
        workshop.run(name, CASES[name].valid[0])


# --- help ---------------------------------------------------------------------------------------------------------


def assert_same(found: list[Row], expected: list[Row], *, ordered: bool) -> None:
    """Equal rows; without an order, as multisets."""
    if ordered:
        assert found == expected
    else:
        assert Counter(map(repr, found)) == Counter(map(repr, expected))


def junk_configs(node_type: NodeType) -> Iterator[dict[str, Any]]:
    """Every key of the model with every kind of wrong value, and a few that no key has."""
    yield {}
    for key in (*node_type.Config.model_fields, "of_the_future"):
        for value in JUNK:
            yield {key: value}
