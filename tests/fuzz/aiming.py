"""Makes of a request that a generator drew one that can succeed: ids of rows that there are, and what no JSON Schema says of a body.

Only what keeps to the document is aimed; a part that breaks it on purpose stays as it was drawn. Some requests are not aimed at all: what
is refused is to be looked at, too.
"""

import random
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import schemathesis
from schemathesis.core.parameters import ParameterLocation

from pipelines.nodes import registry
from tests.fuzz.callers import PASSWORD
from tests.fuzz.world import TOKEN, World

Case: TypeAlias = schemathesis.Case[Any]
Body: TypeAlias = dict[str, Any]

_AIMED = 0.85  # of the requests


def take_aim(world: World, case: Case, caller: str) -> None:
    """Change the request in place. `caller`: the name of the user who sends it."""
    if "If-Match" in case.headers and (case.headers["If-Match"] == "0" or not _is_broken(case, ParameterLocation.HEADER)):
        # The coverage of schemathesis 4.32 has no value for the pattern of this header and sends a zero with every change.
        case.headers["If-Match"] = "*"  # nor does any generator know the version that is current
    if world.chance.random() > _AIMED:
        return
    if "{" in case.path and _phase(case) != "stateful" and not _is_broken(case, ParameterLocation.PATH):
        case.path_parameters = {**case.path_parameters, **world.parameters(case.path, case.method)}
    if not _is_broken(case, ParameterLocation.HEADER):
        _aim_headers(world, case)
    if not _is_broken(case, ParameterLocation.QUERY):
        _aim_query(world, case)
    if isinstance(case.body, dict) and not _is_broken(case, ParameterLocation.BODY):
        # Coverage sends each value at a limit once, and it is to arrive; of its graphs alone none would be one.
        mend = (_GRAPHS if _phase(case) == "coverage" else _BODIES).get(case.operation.label)
        case.body = _named_as_addressed(case, mend(world.chance, dict(case.body), caller) if mend else case.body)


def _phase(case: Case) -> str:
    return str(case.meta.phase.name.value) if case.meta is not None else ""


def _is_broken(case: Case, location: ParameterLocation) -> bool:
    return case.meta is not None and case.meta.is_negative_at(location)


def _aim_headers(world: World, case: Case) -> None:
    if case.path.endswith("/webhook"):
        case.headers["X-Webhook-Token"] = TOKEN
    if "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = str(world.chance.getrandbits(64))  # a key is good for one body


def _aim_query(world: World, case: Case) -> None:
    for name, found in _QUERIES.get(case.operation.label, {}).items():
        if name in case.query:
            case.query[name] = found(world)
    if case.path == "/api/lineage" and "asset" not in case.query:
        case.query.pop("depth", None)


def _named_as_addressed(case: Case, body: Body) -> Body:
    """A change repeats the name in the address, if it has it."""
    named = case.path_parameters.keys() & {"conn_id", "key"} & body.keys()
    return {**body, **{name: case.path_parameters[name] for name in named}}


_QUERIES: Mapping[str, Mapping[str, Callable[[World], Any]]] = {
    "GET /api/pipelines": {"after": lambda world: str(world.steady_pipeline().id)},
    "GET /api/lineage": {"asset": lambda world: world.asset()},
    "GET /api/lineage/columns": {"pipeline_id": lambda world: world.steady_pipeline().pipeline_id},
    "GET /api/runs/calendar": {"pipeline_id": lambda world: world.steady_pipeline().pipeline_id},
}


# --- bodies -------------------------------------------------------------------------------------------------------------

_CRONS = ("", "30 6 * * *", "*/5 * * * MON-FRI", "0 0 L * *", "@daily", "15 3 1,15 * *")
_ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")
_DEADLINES = ("", "07:30", "23:59")
_TYPES = [name for name in registry.names() if not registry.is_disabled(name)]


def _pipeline(chance: random.Random, body: Body, _: str) -> Body:
    """A graph; schedules and zones that there are; no pipeline to wait for, nobody to tell; a name of its own."""
    for name, values in {"schedule": _CRONS, "schedule_timezone": _ZONES, "sla_timezone": _ZONES, "sla_deadline": _DEADLINES}.items():
        if name in body:
            body[name] = chance.choice(values)
    body.update({name: empty for name, empty in (("depends_on", []), ("dependency_rules", []), ("hooks", {}), ("parameters", {})) if name in body})
    if "name" in body:
        body["name"] = f"{body['name']:.60} {chance.getrandbits(32)}"
    return _graph(chance, body, _)


def _graph(chance: random.Random, body: Body, _: str) -> Body:
    """Nodes of known types, edges between them, and no circle; half of the time a slug that is not taken."""
    if body.get("pipeline_id") and chance.random() < 0.5:
        body["pipeline_id"] = f"drawn-{chance.getrandbits(32)}"
    nodes = [_node(chance, node, place) for place, node in enumerate(body.get("nodes") or []) if isinstance(node, dict)]
    if "nodes" in body or "edges" in body:
        body["nodes"] = nodes
        body["edges"] = _edges(chance, nodes, body.get("edges") or [])
    return body


def _dry_run(chance: random.Random, body: Body, _: str) -> Body:
    """Of nodes that end at once."""
    body = _pipeline(chance, body, _)
    quick = {"type": "sql", "config": {"query": "SELECT 1 AS x"}}
    return body | ({"nodes": [node | quick for node in body["nodes"]]} if "nodes" in body else {})


def _node(chance: random.Random, drawn: Body, place: int) -> Body:
    return {**drawn, "id": f"{str(drawn.get('id', ''))[:50].strip()}-{place}", "type": chance.choice(_TYPES)}


def _edges(chance: random.Random, nodes: list[Body], drawn: list[Any]) -> list[Body]:
    """As many as were drawn where there are so many, each to a later node."""
    pairs = [(first["id"], second["id"]) for place, first in enumerate(nodes) for second in nodes[place + 1 :]]
    return [{"from": first, "to": second} for first, second in chance.sample(pairs, min(len(pairs), len(drawn)))]


def _backfill(chance: random.Random, body: Body, _: str) -> Body:
    """Days or moments in order, and not too many; `force` says what `only` does."""
    body = {name: value for name, value in body.items() if name not in ("start_date", "end_date", "start", "end", "force")}
    ends = [f"2024-02-{chance.randint(1, 14):02}", f"2024-02-{chance.randint(15, 28):02}"]
    if chance.random() < 0.5:
        return body | dict(zip(("start_date", "end_date"), ends, strict=True))
    return body | {name: f"{day}T00:00:00Z" for name, day in zip(("start", "end"), ends, strict=True)}


def _schedule(chance: random.Random, body: Body, _: str) -> Body:
    return {**body, "schedule": chance.choice(_CRONS[1:]), "timezone": chance.choice(_ZONES)} | (
        {"after": "2026-03-01T00:00:00Z"} if "after" in body else {}
    )


def _user(chance: random.Random, body: Body, _: str) -> Body:
    body = _account(chance, body, _)
    return {**body, "username": f"drawn-{chance.getrandbits(32)}"}


def _account(chance: random.Random, body: Body, _: str) -> Body:
    if body.get("password"):
        body["password"] = f"a long one, and drawn: {chance.getrandbits(64)}"
    if "roles" in body:
        body["roles"] = chance.sample(["admin", "editor", "operator", "viewer"], min(len(body["roles"]), 2))
    return body


def _login(_: random.Random, body: Body, caller: str) -> Body:
    return {**body, "username": caller, "password": PASSWORD}


def _password(chance: random.Random, body: Body, _: str) -> Body:
    return {**body, "current_password": PASSWORD, "new_password": f"a long one, and drawn: {chance.getrandbits(64)}"}


def _new_variable(chance: random.Random, body: Body, _: str) -> Body:
    return _variable(chance, {**body, "key": f"drawn_{chance.getrandbits(32)}"}, _)


_VALUES: Mapping[str, Any] = {"string": "north", "number": 3.5, "boolean": True, "json": {"a": [1]}, "secret": "s3cret"}


def _variable(chance: random.Random, body: Body, _: str) -> Body:
    """With a value of its type, or of the type that suits the value; never with a value and a reference to one."""
    kind = chance.choice(sorted(_VALUES))
    return {name: value for name, value in body.items() if name != "value_ref"} | {"type": kind, "value": _VALUES[kind]}


def _new_connection(chance: random.Random, body: Body, _: str) -> Body:
    return _connection(chance, {**body, "conn_id": f"drawn_{chance.getrandbits(32)}"}, _)


def _connection(chance: random.Random, body: Body, _: str) -> Body:
    """Of a type that needs a host alone, with its secrets."""
    kind, host = chance.choice([("http", "https://shop.example"), ("postgres", "shop.example"), ("mysql", "shop.example")])
    kept = {name: value for name, value in body.items() if name not in ("password_ref", "extra", "schema", "port")}
    return kept | {"type": kind, "host": host, "login": "ada", "password": "s3cret-that-was-drawn"}


_GRAPHS: Mapping[str, Callable[[random.Random, Body, str], Body]] = dict.fromkeys(
    (
        "POST /api/pipelines",
        "PUT /api/pipelines/{pipeline_id}",
        "PATCH /api/pipelines/{pipeline_id}",
        "POST /api/pipelines/import",
        "POST /api/pipelines/dry-run",
    ),
    _graph,
)
_BODIES: Mapping[str, Callable[[random.Random, Body, str], Body]] = {
    **dict.fromkeys(_GRAPHS, _pipeline),
    "POST /api/pipelines/dry-run": _dry_run,
    "POST /api/pipelines/{pipeline_id}/backfill": _backfill,
    "POST /api/pipelines/{pipeline_id}/rollback": lambda chance, body, caller: {**body, "version": 1},
    "POST /api/runs/{run_id}/resume": lambda chance, body, caller: body | ({"from_node": "first"} if "from_node" in body else {}),
    "POST /api/schedules/preview": _schedule,
    "POST /api/users": _user,
    "PATCH /api/users/{user_id}": _account,
    "POST /api/auth/login": _login,
    "POST /api/auth/password": _password,
    "POST /api/variables": _new_variable,
    "PUT /api/variables/{key}": _variable,
    "PATCH /api/variables/{key}": _variable,
    "POST /api/connections": _new_connection,
    "POST /api/connections/test": _connection,
    "PUT /api/connections/{conn_id}": _connection,
    "PATCH /api/connections/{conn_id}": _connection,
}
