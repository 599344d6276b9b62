"""Scripts as the public Python SDK (package `brokoli` 0.11.0) generates them run unchanged.

`sdk_pipeline.json` is what it made of functions decorated as source, task, filter, map, validate, sink and sensor; `sdk_every_form.json` of
each form that its templates have; `sdk_refused.json` of what needs a server that does more.
"""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from brokoli_site.common.errors import NodeError
from pipelines import documents, validation
from runs.engine import InputArtifact, schema_of
from tests.contracts.case import Given
from tests.contracts.workshop import Outcome, Workshop

FOLDER = Path(__file__).parent
DOCUMENT = json.loads((FOLDER / "sdk_pipeline.json").read_text())
EVERY_FORM = json.loads((FOLDER / "sdk_every_form.json").read_text())
REFUSED = json.loads((FOLDER / "sdk_refused.json").read_text())
SCRIPTS = {node["id"]: node["config"] for node in [*DOCUMENT["nodes"], *EVERY_FORM["nodes"]]}
ORDERS = "SELECT i::BIGINT AS id, i * 1.5::DOUBLE AS amount, CASE WHEN i % 2 = 1 THEN 'DE' ELSE 'US' END AS country FROM range(6) t(i)"


def run(workshop: Workshop, node_id: str, upstream: Outcome | None = None, **params: Any) -> Outcome:
    inputs = []
    if upstream is not None:
        sql = f"FROM {upstream.sql}"
        found = upstream.result.output
        if found is not None:
            workshop._inputs[sql] = InputArtifact("before", "Before", found.artifact, schema_of(found.schema), found.row_count)
        inputs = [sql]
    return workshop.run("code", Given(SCRIPTS[node_id], inputs), params)


def test_the_document_is_valid() -> None:
    report = validation.validate(documents.normalised(DOCUMENT))
    assert not [problem for problem in report.errors if problem.node_id]


def test_a_pipeline_of_the_sdk(workshop: Workshop) -> None:
    loaded = run(workshop, "load_1")
    assert (loaded.columns, len(loaded.rows)) == (["id", "amount", "country"], 6)
    taxed = run(workshop, "add_tax_1", loaded)
    assert taxed.rows[2] == (2, 3.0, "US", 3.57)
    assert run(workshop, "add_tax_1", loaded, rate=1.0, unknown=3).rows[2] == (2, 3.0, "US", 6.0)
    big = run(workshop, "big_1", taxed)
    assert [row[0] for row in big.rows] == [2, 3, 4, 5]
    slim = run(workshop, "slim_1", big)
    assert slim.columns == ["id", "gross"]
    checked = run(workshop, "check_1", slim)
    assert "info: 4 rows" in checked.log.text
    sent = run(workshop, "send_1", checked)
    assert "info: sent 5" in sent.log.text
    assert sent.rows == slim.rows


def test_a_check_that_fails_says_why(workshop: Workshop) -> None:
    with pytest.raises(Exception, match="ValueError: Validation failed: 6 rows") as caught:
        run(workshop, "check_1", run(workshop, "load_1"))
    assert "Line" in str(caught.value)


def test_a_sensor(workshop: Workshop) -> None:
    assert run(workshop, "ready_1").rows == []


# Of each form: the columns that its script adds or leaves, the number of rows, and one of them.
FORMS: dict[str, tuple[list[str], int, tuple[Any, ...] | None]] = {
    "listed_1": (["id", "amount", "country"], 4, (2, 3.0, "US")),
    "with_constants_and_h_1": (["id", "amount", "country", "gross"], 6, (0, 0.0, "US", 100.0)),
    "whole_module_1": (["id", "amount", "country", "base"], 6, (0, 0.0, "US", 100.0)),
    "to_frame_1": (["id", "amount", "country", "double"], 6, (0, 0.0, "US", 0.0)),
    "gaps_1": (["id", "amount", "country", "previous", "text", "seen"], 6, (0, 0.0, "US", None, None, None)),
    "nothing_returned_1": (["id", "amount", "country"], 6, (0, 0.0, "US")),
    "no_rows_1": (["id", "amount", "country"], 0, None),
    "a_number_1": (["id", "amount", "country"], 6, (0, 0.0, "US")),
    "big_1": (["id", "amount", "country"], 4, (2, 3.0, "US")),
    "slimmed_1": (["id"], 6, (0,)),
    "blocks_1": (["id", "amount", "country"], 6, (0, 0.0, "US")),
    "warns_1": (["id", "amount", "country"], 6, (0, 0.0, "US")),
    "truth_1": (["id", "amount", "country"], 6, (0, 0.0, "US")),
    "send_1": (["id", "amount", "country"], 6, (0, 0.0, "US")),
    "two-inputs": (["id", "amount", "country"], 4, (2, 3.0, "US")),
}


def of_form(workshop: Workshop, node_id: str, *inputs: str, **params: Any) -> Outcome:
    config = next(node["config"] for node in EVERY_FORM["nodes"] if node["id"] == node_id)
    return workshop.run("code", Given(config, list(inputs)), params)


@pytest.mark.parametrize(("node_id", "columns", "rows", "first"), [(name, *form) for name, form in FORMS.items()], ids=FORMS.keys())
def test_every_form_runs(workshop: Workshop, node_id: str, columns: list[str], rows: int, first: tuple[Any, ...] | None) -> None:
    outcome = of_form(workshop, node_id, ORDERS)
    assert (outcome.columns, len(outcome.rows)) == (columns, rows)
    assert first is None or outcome.rows[0] == first


def test_gaps_of_a_frame_are_no_values(workshop: Workshop) -> None:
    outcome = of_form(workshop, "gaps_1", ORDERS)
    assert [column.type for column in outcome.schema][3:] == ["DOUBLE", "VARCHAR", "TIMESTAMP"]
    assert outcome.rows[3] == (3, 4.5, "DE", 2.0, "DE", dt.datetime(1970, 1, 4))  # noqa: DTZ001 - the column has no zone


def test_sources(workshop: Workshop) -> None:
    assert len(of_form(workshop, "plain_1").rows) == 6
    assert of_form(workshop, "from_a_frame_1").rows == [(1, 1.5, "x"), (2, None, None)]
    assert of_form(workshop, "nothing_1").rows == []


def test_typed_parameters(workshop: Workshop) -> None:
    """The script names a type in an annotation that it does not carry."""
    assert of_form(workshop, "typed_1", ORDERS).rows[2] == (2, 1.5, "x", 3, True)
    given = {"rate": 2.0, "label": "y", "days": 1, "strict": False}
    assert of_form(workshop, "typed_1", ORDERS, **given).rows[2] == (2, 6.0, "y", 1, False)


def test_a_warning_is_logged(workshop: Workshop) -> None:
    assert "only a warning" in of_form(workshop, "warns_1", ORDERS).log.text


@pytest.mark.parametrize(("node_id", "words"), [("fails_1", "RuntimeError: on purpose"), ("never_1", "TimeoutError: Sensor 'never' timed out")])
def test_what_fails_says_so(workshop: Workshop, node_id: str, words: str) -> None:
    with pytest.raises(NodeError, match=words):
        of_form(workshop, node_id, ORDERS)


def test_every_form_is_valid() -> None:
    report = validation.validate(documents.normalised(EVERY_FORM))
    assert not report.errors
    assert not [problem for problem in report.warnings if problem.node_id]


def test_what_this_server_does_not_do_is_refused_when_it_is_saved() -> None:
    """Never run as something else: a bundle, a task a item, a function over partitions that the document does not hold."""
    report = validation.validate(documents.normalised(REFUSED))
    found = {(problem.node_id, problem.field): problem.message for problem in report.errors}
    assert "does not take" in found["whole_module_1", "task_bundle"]
    assert "does not do" in found["each_1", "expansion"]
    assert "There is no node type 'dataset_map'" in found["mapped_1", "type"]


def test_branches_and_waits_of_the_sdk() -> None:
    """`wait(…) >> source_file(…)`, and `condition_node(…)` with `.when(…)` and `.otherwise(…)`, as the SDK wrote them to `sdk_branches.json`."""
    document = json.loads((Path(__file__).parent / "sdk_branches.json").read_text())
    assert [edge.get("condition") for edge in document["edges"]] == [None, None, True, False]
    assert validation.validate(document).errors == ()
