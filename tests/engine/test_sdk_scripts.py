"""Scripts as the public Python SDK (package `brokoli` 0.11.0) generates them run unchanged.

`sdk_pipeline.json` is what it made of functions decorated as source, task, filter, map, validate, sink and sensor.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines import documents, validation
from runs.engine import InputArtifact, schema_of
from tests.contracts.case import Given
from tests.contracts.workshop import Outcome, Workshop

DOCUMENT = json.loads((Path(__file__).parent / "sdk_pipeline.json").read_text())
SCRIPTS = {node["id"]: node["config"] for node in DOCUMENT["nodes"]}


@pytest.fixture
def workshop(tmp_path: Path) -> Any:
    made = Workshop(tmp_path)
    yield made
    made.close()


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
