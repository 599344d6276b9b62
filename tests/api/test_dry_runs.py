"""Dry runs over the API: what they answer, and that they leave nothing behind."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.test import Client

from brokoli_site.common import yaml
from pipelines import definitions
from pipelines.models import Pipeline
from runs.models import LogEntry, NodeOutput, NodeRun, Run
from tests.writes import everything_in

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DRAFT = "/api/pipelines/dry-run"


@pytest.fixture
def data(tmp_path: Path, settings: Any) -> Iterator[Path]:
    """The data folder."""
    settings.DATA_DIRS = (tmp_path,)
    (tmp_path / "orders.csv").write_text("id,status,amount\n" + "".join(f"{i},paid,{i}.5\n" for i in range(1, 26)))
    yield tmp_path


def node(node_id: str, kind: str, **config: Any) -> dict[str, Any]:
    return {"id": node_id, "type": kind, "name": node_id.title(), "config": config}


def draft(*nodes: dict[str, Any], edges: str = "", **keys: Any) -> dict[str, Any]:
    """`edges` as `a>b b>c`."""
    pairs = [pair.split(">") for pair in edges.split()]
    return {"name": "Draft", "nodes": list(nodes), "edges": [{"from": source, "to": target} for source, target in pairs], **keys}


ORDERS = node("orders", "source_file", path="orders.csv")


def post(api: Client, body: Any, path: str = DRAFT) -> Any:
    return api.post(path, body, content_type="application/json")


def answer(api: Client, body: Any, path: str = DRAFT) -> dict[str, Any]:
    response = post(api, body, path)
    assert response.status_code == 200, response.content
    found: dict[str, Any] = response.json()
    return found


_OUTSIDE = frozenset({"source_api", "source_db", "sink_db", "migrate"})


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_runs_dry(api: Client, data: Path, path: Path) -> None:
    shutil.copytree(EXAMPLES / "data", data / "examples")
    found = definitions.create(yaml.loads(path.read_bytes()))
    nodes = answer(api, {}, f"/api/pipelines/{found.pipeline.id}/dry-run")
    assert list(nodes) == [node["id"] for node in found.document["nodes"]]
    types = {node["id"]: node["type"] for node in found.document["nodes"]}
    executed = {node_id: (node["status"], node.get("error")) for node_id, node in nodes.items() if node["status"] != "skipped"}
    outside = {node_id for node_id in executed if types[node_id] in _OUTSIDE}  # what they need is not there
    assert executed == dict.fromkeys(executed, ("success", None)) | {node_id: executed[node_id] for node_id in outside}
    # Of the nodes that a dry run can execute, none is left out, but for what needs one that it cannot, and the other branch.
    assert executed.keys() == nodes.keys() or {"code", "condition", *_OUTSIDE} & set(types.values())
    assert all(len(nodes[node_id]["rows"]) <= 10 for node_id in executed)


def test_the_first_ten_rows_of_a_source_go_through_the_pipeline(api: Client, data: Path) -> None:
    total = node("total", "sql", query="SELECT sum(id) AS total, count(*) AS n FROM input")
    nodes = answer(api, draft(ORDERS, total, edges="orders>total"))
    orders = nodes["orders"]
    assert (orders["node_id"], orders["name"], orders["type"], orders["status"]) == ("orders", "Orders", "source_file", "success")
    assert orders["columns"] == ["id", "status", "amount"]
    assert orders["schema"][2] == {"name": "amount", "type": "DOUBLE"}
    assert orders["rows"][0] == {"id": 1, "status": "paid", "amount": 1.5}
    assert (len(orders["rows"]), orders["row_count"], orders["truncated"]) == (10, 10, True)
    assert nodes["total"]["rows"] == [{"total": 55, "n": 10}]


def test_a_saved_pipeline_takes_params_and_answers_by_slug(api: Client, data: Path) -> None:
    paid = node("paid", "sql", query="SELECT * FROM input WHERE id <= ${param.most}")
    definitions.create(draft(ORDERS, paid, edges="orders>paid", pipeline_id="saved", params={"most": 3}))
    assert answer(api, {}, "/api/pipelines/saved/dry-run")["paid"]["row_count"] == 3
    assert answer(api, {"params": {"most": 5}}, "/api/pipelines/saved/dry-run")["paid"]["row_count"] == 5


def test_a_missing_param_fails_the_node_that_needs_it(api: Client, data: Path) -> None:
    paid = node("paid", "sql", query="SELECT * FROM input WHERE id <= ${param.most}")
    declared = {"parameters": {"most": {"type": "integer", "required": True}}}
    nodes = answer(api, draft(ORDERS, paid, edges="orders>paid", **declared))
    assert (nodes["orders"]["status"], nodes["paid"]["status"]) == ("success", "failed")
    assert "most" in nodes["paid"]["error"]


def test_a_param_that_does_not_fit_is_named(api: Client, data: Path) -> None:
    definitions.create(draft(ORDERS, pipeline_id="typed", parameters={"most": {"type": "integer"}}))
    response = post(api, {"params": {"most": "x"}}, "/api/pipelines/typed/dry-run")
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "/params/most"


def test_a_node_that_fails_hides_only_what_is_below_it(api: Client, data: Path) -> None:
    nodes = answer(
        api,
        draft(
            ORDERS,
            node("gone", "source_file", path="gone.csv"),
            node("below", "sql", query="SELECT * FROM gone"),
            node("wrong", "transform", rules=[{"type": "filter_rows", "condition": "nothing > 1"}]),
            node("unfinished", "source_file"),
            node("alone", "transform", rules=[]),
            node("right", "sql", query="SELECT count(*) AS n FROM orders"),
            edges="gone>below orders>wrong orders>right",
        ),
    )
    assert {node_id: found["status"] for node_id, found in nodes.items()} == {
        "orders": "success",
        "gone": "failed",
        "below": "skipped",
        "wrong": "failed",
        "unfinished": "failed",
        "alone": "failed",
        "right": "success",
    }
    assert nodes["gone"]["error"] == "There is no file 'gone.csv'."
    assert nodes["below"]["error"] == "Node 'Gone', which it needs, failed."
    assert nodes["wrong"]["error"].startswith("Rule 1 (filter_rows), field 'rules.0.condition', line 1, column 1: Unknown column")
    assert "path" in nodes["unfinished"]["error"]
    assert nodes["alone"]["error"] == "Node 'alone' needs 1 input and has none; draw an edge to it."
    assert all(found["rows"] == [] for found in nodes.values() if found["status"] != "success")


def test_scripts_are_not_executed(api: Client, data: Path) -> None:
    script = node("script", "code", script=f"open({str(data / 'new.txt')!r}, 'w')")
    nodes = answer(api, draft(ORDERS, script, node("below", "sql", query="SELECT * FROM script"), edges="orders>script script>below"))
    assert [nodes[name]["status"] for name in ("orders", "script", "below")] == ["success", "skipped", "skipped"]
    assert nodes["script"]["error"] == "A dry run does not execute nodes of type 'code': what they do cannot be undone."
    assert nodes["below"]["error"] == "Node 'Script', which it needs, was not executed."
    assert not (data / "new.txt").exists()


def test_a_sink_says_what_it_would_write(api: Client, data: Path) -> None:
    (data / "there.csv").write_text("id,old\n1,2\n")
    nodes = answer(
        api,
        draft(
            ORDERS,
            node("new", "sink_file", path="not/yet/there.parquet"),
            node("over", "sink_file", path="there.csv"),
            node("more", "sink_file", path="there.csv", mode="append"),
            edges="orders>new orders>over orders>more",
        ),
    )
    new = nodes["new"]["would_write"]
    assert (new["rows"], new["target"], new["mode"], new["exists"], new["differences"]) == (10, "not/yet/there.parquet", "overwrite", False, None)
    assert new["columns"][0] == {"name": "id", "type": "BIGINT"}
    assert nodes["over"]["would_write"]["differences"] == {"added": ["status", "amount"], "removed": ["old"], "retyped": []}
    assert nodes["more"]["status"] == "failed"
    assert nodes["more"]["error"].startswith("'there.csv' cannot be appended to")
    assert nodes["more"]["would_write"]["mode"] == "append"
    assert (data / "there.csv").read_text() == "id,old\n1,2\n"
    assert not (data / "not").exists()


def test_nothing_is_left_behind(api: Client, data: Path) -> None:
    shutil.copytree(EXAMPLES / "data", data / "examples")
    found = definitions.create(yaml.loads((EXAMPLES / "flights_delays.yaml").read_bytes()))
    answer(api, draft(ORDERS))  # the process for dry runs has started: what a first use makes would be there
    before = watched(data)
    nodes = answer(api, {}, f"/api/pipelines/{found.pipeline.id}/dry-run")
    assert {node["status"] for node in nodes.values()} == {"success"}
    assert watched(data) == before
    assert [model.objects.count() for model in (Run, NodeRun, NodeOutput, LogEntry)] == [0, 0, 0, 0]
    answer(api, draft(ORDERS, pipeline_id="unsaved"))
    assert not Pipeline.objects.filter(pipeline_id="unsaved").exists()
    assert watched(data) == before


def watched(data: Path) -> dict[str, Any]:
    """Everything in the data folder, the artifacts, the keys and (by name: others use it too) the temporary folder and the memory's."""
    found = everything_in(data, *(folder for folder in (settings.ARTIFACTS, settings.HOME / "keys", settings.HOME / "data") if folder.exists()))
    names = {str(path) for path in settings.HOME.iterdir()}
    shared = {path.name for folder in (tempfile.gettempdir(), "/dev/shm") for path in Path(folder).glob("*") if "duckdb" in path.name}
    return {**found, "home": names, "shared": shared}


def test_a_structure_that_cannot_run_is_refused_with_every_problem(api: Client, data: Path) -> None:
    response = post(api, draft(ORDERS, node("x", "nonsense"), node("unfinished", "source_file"), edges="orders>nowhere"))
    assert response.status_code == 422
    assert {problem.get("node_id", problem.get("field")) for problem in response.json()["errors"]} == {"x", "edges", "unfinished"}
    assert post(api, draft()).status_code == 422
    assert post(api, draft(ORDERS, node("a", "sql", query="SELECT 1"), node("b", "sql", query="SELECT 1"), edges="a>b b>a")).status_code == 422


@pytest.mark.parametrize("body", ["", "[]", "1", '"x"', "{", "null", '{"nodes": 1}', '{"name": "x", "nodes": [{}]}', '{"name": "\\u0000"}', "{}"])
def test_junk_is_refused(api: Client, body: str) -> None:
    assert post(api, body).status_code in (400, 422)


@pytest.mark.parametrize("body", ["[]", '{"x": 1}', '{"params": 1}', '{"params": {"a": []}}', '{"params": {"a": NaN}}'])
def test_junk_for_a_saved_pipeline_is_a_400(api: Client, data: Path, body: str) -> None:
    definitions.create(draft(ORDERS, pipeline_id="saved"))
    assert post(api, body, "/api/pipelines/saved/dry-run").status_code == 400
    assert post(api, "{}", "/api/pipelines/other/dry-run").status_code == 404


def test_a_cross_join_of_many_is_cut(api: Client, data: Path) -> None:
    many = "SELECT o.id FROM orders o" + "".join(f" CROSS JOIN orders o{i}" for i in range(8))
    n = node("n", "sql", query="SELECT count(*) AS n FROM many")
    nodes = answer(api, draft(ORDERS, node("many", "sql", query=many), n, edges="orders>many many>n"))
    assert (nodes["many"]["row_count"], nodes["many"]["truncated"], len(nodes["many"]["rows"])) == (10_000, True, 10)
    assert nodes["n"]["rows"] == [{"n": 10_000}]


def test_the_sql_of_people_reaches_no_file(api: Client, data: Path) -> None:
    nodes = answer(api, draft(node("reads", "sql", query=f"SELECT * FROM read_csv('{data}/orders.csv')")))
    assert nodes["reads"]["status"] == "failed"
    assert str(data) not in nodes["reads"]["error"].replace(f"{data}/orders.csv", "")


@pytest.mark.parametrize(
    ("rights", "saved", "unsaved"),
    [(["run"], 200, 403), (["run", "create"], 200, 200), (["run", "edit"], 200, 200), (["create", "edit", "view"], 403, 403)],
)
def test_rights(data: Path, rights: list[str], saved: int, unsaved: int) -> None:
    found = definitions.create(draft(ORDERS))
    user = User.objects.create_user("someone")
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="pipelines", codename__in=rights))
    client = Client(headers={"host": "localhost"})
    client.force_login(user)
    assert post(client, {}, f"/api/pipelines/{found.pipeline.id}/dry-run").status_code == saved
    assert post(client, draft(ORDERS)).status_code == unsaved
