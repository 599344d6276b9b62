"""The example of the HTTP nodes, run node by node against a server on loopback."""

import json
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from brokoli_site.common import yaml
from pipelines.nodes.base import Stop
from pipelines.spec import NodeSpec
from runs.engine import InputArtifact, NodeResult, NodeTask, schema_of
from tests.contracts.case import Given
from tests.contracts.workshop import Log, Workshop
from tests.web_api import Params, api, body, send

pytestmark = pytest.mark.any_database
_NOTHING = Given({"query": "SELECT 1 AS x"})
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "api_report.yaml"


def stations(handler: BaseHTTPRequestHandler, params: Params) -> None:
    page = int(params.get("after", "0"))
    items = [{"id": page * 2 + number, "name": f"S{page * 2 + number}", "celsius": 3 - page * 2 - number} for number in range(2)]
    send(handler, {"data": {"items": items}, "next": {"after": page + 1 if page < 3 else None}})


def test_the_example_reads_filters_sends_and_tells(workshop: Workshop) -> None:
    document = yaml.loads(EXAMPLE.read_bytes())
    with api({"/stations": stations, "/cold": body(b"{}"), "/told": body(b"{}")}) as server:
        given: tuple[InputArtifact, ...] = ()
        with workshop.engine.open_run(workshop.run_id) as session:
            for node in document["nodes"]:
                blank = workshop.task("sql", _NOTHING, {"api_url": server.url("")})
                task: NodeTask = replace(blank, node=NodeSpec(node["id"], node["type"], node["name"], node["config"]), inputs=given)
                result = session.execute(task, Log(), Stop())
                assert isinstance(result, NodeResult)
                if result.output is not None:
                    output = result.output
                    given = (InputArtifact(node["id"], node["name"], output.artifact, schema_of(output.schema), result.row_count),)
        sent = [(request.path, json.loads(request.body)) for request in server.received if request.method == "POST"]
        assert [(path, [row["id"] for row in found["stations"]]) for path, found in sent[:-1]] == [("/cold", [4, 5]), ("/cold", [6, 7])]
        assert sent[-1][0] == "/told"
        assert sent[-1][1]["message"] == "The pipeline: 4 cold stations"
