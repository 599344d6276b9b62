"""The pipelines of the mix: short and long, wide and narrow, with real data, failing now and then. Pure."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["plain", "cancelled", "mended"]


@dataclass(frozen=True, slots=True)
class Ingredient:
    """A pipeline, how often it comes (`weight`), and what becomes of its runs.

    `plain` ones succeed; `cancelled` ones are cancelled by a client some time after; `mended` ones fail, and succeed when they
    are resumed.
    """

    name: str
    weight: int
    document: Mapping[str, Any]
    kind: Kind = "plain"


def probe(node_id: str, seconds: float = 0.1, **config: Any) -> dict[str, Any]:
    return {"id": node_id, "type": "chaos_probe", "name": node_id, "config": {"seconds": seconds, **config}}


def node(node_id: str, type_name: str, **config: Any) -> dict[str, Any]:
    return {"id": node_id, "type": type_name, "name": node_id, "config": config}


def _document(name: str, nodes: list[dict[str, Any]], edges: Iterable[tuple[str, str]], **keys: Any) -> dict[str, Any]:
    return {"name": name, "pipeline_id": name, "nodes": nodes, "edges": [{"from": source, "to": target} for source, target in edges], **keys}


def _chain(name: str, *nodes: dict[str, Any], **keys: Any) -> dict[str, Any]:
    ids = [each["id"] for each in nodes]
    return _document(name, list(nodes), itertools.pairwise(ids), **keys)


def _wide(name: str, width: int) -> dict[str, Any]:
    middle = [probe(f"m{number}", 0.2) for number in range(width)]
    edges = [pair for one in middle for pair in (("first", one["id"]), (one["id"], "last"))]
    return _document(name, [probe("first"), *middle, probe("last")], edges)


def _flights(name: str) -> dict[str, Any]:
    """Real data through every kind of node that there is; what it writes can be counted."""
    nodes = [
        node("planes", "source_file", path="planes.csv.gz", null_values=["NA"]),
        node("airlines", "source_file", path="airlines.csv.gz"),
        node("recent", "transform", rules=[{"type": "filter_rows", "condition": "year >= 2000"}]),
        node("makers", "sql", query="SELECT manufacturer, count(*) AS planes FROM input GROUP BY manufacturer ORDER BY planes DESC"),
        probe("seen", 0.2),
        node("pairs", "join", join_type="cross"),
        node("kept", "sink_file", path="out/${run.id}.csv"),
    ]
    edges = [("planes", "recent"), ("recent", "makers"), ("makers", "seen"), ("seen", "pairs"), ("airlines", "pairs"), ("pairs", "kept")]
    return _document(name, nodes, edges)


def _branches(name: str) -> dict[str, Any]:
    """Which branch is taken hangs on data; both lead to one end."""
    nodes = [
        probe("first"),
        node("rows", "sql", query="SELECT * FROM range(3) t(x)"),
        node("many", "condition", expression='row_count > 1 and max("x") = 2'),
        probe("taken", 0.2),
        probe("not-taken", 0.2),
        probe("after-it", 0.1),
        node("all", "union"),
        probe("last", 0.1),
    ]
    document = _document(name, nodes, [("rows", "many"), ("taken", "all"), ("not-taken", "after-it"), ("after-it", "all"), ("all", "last")])
    edges = [{"from": "many", "to": "taken", "condition": True}, {"from": "many", "to": "not-taken", "condition": False}]
    return document | {"edges": [*document["edges"], *edges, {"from": "first", "to": "last"}]}


def _waiting(name: str) -> dict[str, Any]:
    """Parks between its nodes until the newest run of the most frequent pipeline is over."""
    wait = node("calm", "wait", condition="pipeline", pipeline_id="short", poll_interval="1s", timeout="30m")
    return _chain(name, probe("a", 0.1), wait, probe("b", 0.1))


MIX = (
    Ingredient("short", 30, _chain("short", probe("only", 0.1))),
    Ingredient("chain", 20, _chain("chain", probe("a", 0.1), probe("b", 0.2), probe("c", 0.1))),
    Ingredient("long", 8, _chain("long", *[probe(f"n{number}", 0.4) for number in range(6)])),
    Ingredient("wide", 8, _wide("wide", 6)),
    Ingredient("diamond", 10, _wide("diamond", 2)),
    Ingredient("flights", 10, _flights("flights")),
    Ingredient("branches", 6, _branches("branches")),
    Ingredient("waiting", 6, _waiting("waiting")),
    Ingredient("flaky", 8, _chain("flaky", probe("a", 0.1), probe("b", 0.1, fail_first=2, max_retries=3, retry_delay=100), probe("c", 0.1))),
    Ingredient("one-at-a-time", 4, _chain("one-at-a-time", probe("a", 0.2), probe("b", 0.1), max_active_runs=1)),
    Ingredient("cancelled", 6, _chain("cancelled", *[probe(f"n{number}", 0.5) for number in range(4)]), "cancelled"),
    Ingredient("mended", 6, _chain("mended", probe("a", 0.1), probe("b", 0.1, needs="${param.token}"), probe("c", 0.1)), "mended"),
)
