"""What a quality check finds is kept with its output, and not with the outputs that pass the same data on."""

import pytest

from runs.models import LogEntry, NodeOutput, NodeRun
from runs.states import NodeStatus
from tests.conftest import StartWorker
from tests.factories import accept_run, make_pipeline, sql_node

pytestmark = pytest.mark.any_database


def _node(node_id: str, *rules: str, on_failure: str = "block") -> dict[str, object]:
    return {"id": node_id, "type": "quality_check", "name": node_id, "config": {"rules": list(rules), "on_failure": on_failure}}


@pytest.mark.slow
def test_results_are_stored_where_they_belong_and_logged(start_worker: StartWorker) -> None:
    rows = sql_node("rows", "SELECT * FROM (VALUES (1), (NULL)) t(id)")
    first, second, strict = (
        _node("first", "not_null(id)", on_failure="warn"),
        _node("second", "row_count(min=2)"),
        _node("strict", "unique(id)", "min(id, 5)"),
    )
    through = {"id": "through", "type": "union", "name": "through", "config": {}}
    edges = [("rows", "first"), ("first", "through"), ("through", "second"), ("second", "strict")]
    run = accept_run(make_pipeline([rows, first, through, second, strict], edges))

    assert start_worker("--drain").wait(60) == 0

    outputs = {output.node_id: output for output in NodeOutput.objects.filter(run=run)}
    checks = {node_id: [(one["check"], one["passed"]) for one in output.profile.get("checks", [])] for node_id, output in outputs.items()}
    assert checks == {"rows": [], "first": [("not_null(id)", False)], "through": [], "second": [("row_count(min=2)", True)]}
    assert outputs["first"].profile["checks"][0]["sample"] == [{"row": 2, "values": {"id": None}}]
    assert len({output.artifact for output in outputs.values()}) == 1, "passing data through copied it"
    failed = NodeRun.objects.get(run=run, node_id="strict")
    assert failed.status == NodeStatus.FAILED
    assert failed.error == "1 of 2 quality rules failed: min(id, 5): rows below 5: 1 of 2; smallest: 1 (limit: min 5) (rules.1)."
    lines = LogEntry.objects.filter(run=run, kind="log", message__startswith="Quality rule").values_list("node_id", "level", "message")
    assert ("first", "warning", "Quality rule failed (warning): not_null(id): rows without a value: 1 of 2. For example row 2 (id = NULL).") in lines
    assert len(lines) == 4
