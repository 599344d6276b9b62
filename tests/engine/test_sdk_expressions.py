"""A pipeline that the public Python SDK (package `brokoli` 0.11.0) wrote of its expression builders runs unchanged.

`sdk_expressions.json` is what it made of `source_file`, `filter_rows`, `project`, `aggregate` and `sink_file`.
"""

import json
from pathlib import Path

from pipelines import documents, validation
from runs.engine import InputArtifact, schema_of
from tests.contracts.case import Given
from tests.contracts.workshop import Outcome, Workshop

DOCUMENT = json.loads((Path(__file__).parent / "sdk_expressions.json").read_text())
NODES = {node["id"]: node for node in DOCUMENT["nodes"]}
TRIPS = "carrier,distance,minutes\nAA,600,60\nAA,300,0\n,1200,120\nAA,200,30\nUA,900,\n"


def run(workshop: Workshop, node_id: str, upstream: Outcome | None = None) -> Outcome:
    inputs = []
    if upstream is not None:
        inputs = [f"FROM {upstream.sql}"]
        found = upstream.result.output
        assert found is not None
        workshop._inputs[inputs[0]] = InputArtifact("before", "Before", found.artifact, schema_of(found.schema), found.row_count)
    return workshop.run(NODES[node_id]["type"], Given(NODES[node_id]["config"], inputs))


def test_the_document_is_valid_and_nothing_in_its_nodes_is_unknown() -> None:
    report = validation.validate(documents.normalised(DOCUMENT))
    assert report.errors == ()
    assert [problem for problem in report.warnings if problem.node_id] == []


def test_a_pipeline_of_the_sdks_expressions(workshop: Workshop) -> None:
    (workshop.folder / "data").mkdir()
    (workshop.folder / "data/trips.csv").write_text(TRIPS)
    kept = run(workshop, "long_1", run(workshop, "flights_1"))
    assert [row[1] for row in kept.rows] == [600, 300, 1200]
    shaped = run(workshop, "speed_1", kept)
    assert shaped.columns == ["carrier", "label", "speed", "far", "cost"]
    assert shaped.rows == [
        ("AA", "AA-600", 600.0, False, 600.5),
        ("AA", "AA-300", None, False, 300.5),
        ("??", None, 600.0, True, 1200.5),
    ]
    assert run(workshop, "by_carrier_1", shaped).rows == [("??", 600.0, 1), ("AA", 600.0, 2)]
