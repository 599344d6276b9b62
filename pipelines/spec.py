"""The definition of a pipeline as frozen values: read from the document (JSON or YAML) that clients send. Pure: no database.

A document keeps whatever it holds; a spec holds what this server understands of it.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from brokoli_site.common.errors import BrokoliError
from pipelines import dependencies, durations, hooks, parameters, schedules
from pipelines.dependencies import DependencyRule
from pipelines.hooks import Hook
from pipelines.parameters import Parameter
from pipelines.problems import Problem, broken, kind_of, list_under, shortened
from pipelines.schedules import MissedRuns, Overlap, SlaDeadline

MOST_NODES = 500
MOST_EDGES = 10_000
LONGEST_NAME = 200  # characters of a name or an id
LONGEST_TYPE = 100
MOST_RETRIES = 100
LONGEST_DELAY_MS = 24 * 60 * 60 * 1000
LONGEST_TIMEOUT_SECONDS = 7 * 24 * 60 * 60
DEFAULT_TIMEOUT_SECONDS = 1800.0
MOST_ACTIVE_RUNS = 10_000


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and after how long, a failed attempt is followed by another. Delays in milliseconds."""

    max_retries: int = 0
    delay_ms: int = 1000
    backoff: Literal["exponential", "fixed"] = "exponential"


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One step of the DAG. `config` is normalised: aliases replaced, so that each thing has one key."""

    id: str
    type: str
    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    retry: RetryPolicy = RetryPolicy()
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    pool: str = ""
    pointer: str = field(default="", compare=False)  # JSON Pointer of the node in its document, for problems found later


@dataclass(frozen=True, slots=True)
class EdgeSpec:
    """Data flows along it. `condition` picks a branch of the condition node that it leaves."""

    source: str
    target: str
    condition: bool | None = None


@dataclass(frozen=True, slots=True)
class PipelineSpec:
    """A pipeline that can be walked: unique node ids, edges between known nodes, no cycle."""

    name: str
    nodes: tuple[NodeSpec, ...]
    edges: tuple[EdgeSpec, ...]
    params: Mapping[str, Any] = field(default_factory=dict)  # default values of parameters, declared or not
    parameters: tuple[Parameter, ...] = ()  # those that are declared
    timeout_seconds: float | None = None  # of a whole run, from its first start
    max_active_runs: int | None = None  # runs of it that execute at the same time
    overlap: Overlap = "queue"  # what a schedule does while an earlier run of it is active
    missed_runs: MissedRuns = "latest"  # which ticks are made up for that nobody was there to see
    dependencies: tuple[DependencyRule, ...] = ()
    hooks: Mapping[str, tuple[Hook, ...]] = field(default_factory=dict)  # by event: see `hooks.EVENTS`
    sla: SlaDeadline | None = None

    def node(self, node_id: str) -> NodeSpec:
        """Errors: `KeyError`."""
        for node in self.nodes:
            if node.id == node_id:
                return node
        raise KeyError(node_id)

    def inputs_of(self, node_id: str) -> tuple[str, ...]:
        """Ids of the nodes that feed it, in edge order: the first edge is a join's left side. Two edges from one node give it twice."""
        return tuple(edge.source for edge in self.edges if edge.target == node_id)


class InvalidPipeline(BrokoliError):
    """The pipeline is not valid."""

    status, code = 422, "invalid_pipeline"

    def __init__(self, problems: Sequence[Problem], message: str | None = None) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__(message or _summary(self.problems))


def _summary(problems: Sequence[Problem]) -> str:
    if len(problems) == 1:
        return problems[0].message
    return f"The pipeline has {len(problems)} errors; the first is: {problems[0].message}" if problems else "The pipeline is not valid."


def from_document(document: Mapping[str, Any]) -> PipelineSpec:
    """The spec of a document. A cycle is found by `graph.Graph`. Errors: `InvalidPipeline` with every problem of its structure."""
    spec, problems = read(document)
    if problems:
        raise InvalidPipeline(problems)
    return spec


def read(document: Mapping[str, Any]) -> tuple[PipelineSpec, tuple[Problem, ...]]:
    """What can be read of a document, and everything that cannot. Nodes and edges at fault are left out of the spec."""
    problems: list[Problem] = []
    name = document.get("name")
    if not isinstance(name, str) or not name.strip() or len(name) > LONGEST_NAME:
        problems.append(broken(f"A pipeline needs a name: a text of 1 to {LONGEST_NAME} characters.", "/name", field="name"))
        name = ""
    nodes = _read_nodes(document, problems)
    # Without the list of nodes every edge leads nowhere, which would only bury what is wrong.
    lost = any(problem.pointer == "/nodes" for problem in problems)
    edges = () if lost else _read_edges(document, {node.id for node in nodes}, problems)
    params = document.get("params")
    spec = PipelineSpec(
        name=name,
        nodes=nodes,
        edges=edges,
        params=params if isinstance(params, Mapping) else {},
        parameters=parameters.read(document, problems),
        timeout_seconds=_number(document, "timeout", LONGEST_TIMEOUT_SECONDS, problems),
        max_active_runs=_whole_number(document, "max_active_runs", MOST_ACTIVE_RUNS, problems),
        overlap=schedules.read_overlap(document, problems),
        missed_runs=schedules.read_missed_runs(document, problems),
        dependencies=dependencies.read(document, problems),
        hooks=hooks.read(document, problems),
        sla=schedules.read_sla(document, problems),
    )
    return spec, tuple(problems)


def _number(document: Mapping[str, Any], key: str, most: float, problems: list[Problem]) -> float | None:
    """A number above 0 under `key`; None where there is none (0 is another way to say that)."""
    found = document.get(key)
    if found is None or (found == 0 and not isinstance(found, bool)):
        return None
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found <= most:
        problems.append(broken(f"'{key}' must be a number above 0 and at most {most}, or null.", f"/{key}", field=key))
        return None
    return found


def _whole_number(document: Mapping[str, Any], key: str, most: int, problems: list[Problem]) -> int | None:
    found = _number(document, key, most, problems)
    if found is not None and found != int(found):
        problems.append(broken(f"'{key}' must be a whole number.", f"/{key}", field=key))
        return None
    return None if found is None else int(found)


def _list(document: Mapping[str, Any], key: str, most: int, problems: list[Problem]) -> list[Any]:
    return list_under(document, key, most, f"A pipeline has at most {most} {key}; this one has {{count}}. Split it in two.", problems)


def _read_nodes(document: Mapping[str, Any], problems: list[Problem]) -> tuple[NodeSpec, ...]:
    nodes: dict[str, NodeSpec] = {}
    for index, raw in enumerate(_list(document, "nodes", MOST_NODES, problems)):
        pointer = f"/nodes/{index}"
        if not isinstance(raw, Mapping):
            problems.append(broken(f"Node {index + 1} must be an object, not {kind_of(raw)}.", pointer, field="nodes"))
            continue
        node_id = raw.get("id")
        if not isinstance(node_id, str) or not _can_be_id(node_id):
            problems.append(broken(f"Node {index + 1}: its id {_ID_RULE}.", f"{pointer}/id", field="id"))
        elif node_id in nodes:
            problems.append(broken(f"Two nodes have the id '{node_id}'; ids must be unique.", f"{pointer}/id", node_id, "id"))
        else:
            node = _read_node(raw, node_id, pointer, problems)
            nodes[node_id] = node
    return tuple(nodes.values())


def _read_node(raw: Mapping[str, Any], node_id: str, pointer: str, problems: list[Problem]) -> NodeSpec:
    def wrong(key: str, rule: str) -> None:
        problems.append(broken(f"Node '{node_id}': '{key}' must be {rule}.", f"{pointer}/{key}", node_id, key))

    type_name, name, config, position = raw.get("type"), raw.get("name"), raw.get("config"), raw.get("position")
    if not isinstance(type_name, str) or not 1 <= len(type_name) <= LONGEST_TYPE:
        wrong("type", f"the name of a node type (a text of 1 to {LONGEST_TYPE} characters)")
        type_name = ""
    if name is not None and (not isinstance(name, str) or len(name) > LONGEST_NAME):
        wrong("name", f"a text of at most {LONGEST_NAME} characters")
        name = ""
    if config is not None and not isinstance(config, Mapping):
        wrong("config", f"an object, not {kind_of(config)}")
        config = {}
    if position is not None and not isinstance(position, Mapping):
        wrong("position", "an object with x and y")
    config = config or {}
    settings = _Settings(raw, config, node_id, pointer, problems)
    return NodeSpec(
        id=node_id,
        type=type_name,
        name=name or node_id,
        config=config,
        retry=RetryPolicy(
            max_retries=int(settings.number("max_retries", 0, MOST_RETRIES, 0, alias="retries")),
            delay_ms=int(settings.number("retry_delay", 0, LONGEST_DELAY_MS, RetryPolicy().delay_ms)),
            backoff="fixed" if settings.choice("retry_backoff", ("exponential", "fixed")) == "fixed" else "exponential",
        ),
        # 0 is how the SDK's older versions spelt "not set".
        timeout_seconds=settings.seconds("timeout", LONGEST_TIMEOUT_SECONDS, DEFAULT_TIMEOUT_SECONDS) or DEFAULT_TIMEOUT_SECONDS,
        pool=settings.text("pool") or settings.connection(),
        pointer=pointer,
    )


@dataclass(frozen=True, slots=True)
class _Settings:
    """The keys that every node takes. The editor writes them into the config, some programs beside it; the config wins."""

    raw: Mapping[str, Any]
    config: Mapping[str, Any]
    node_id: str
    pointer: str
    problems: list[Problem]

    def _find(self, *keys: str) -> tuple[Any, str, str]:
        for holder, prefix in ((self.config, "/config"), (self.raw, "")):
            for key in keys:
                if holder.get(key) is not None and holder[key] != "":
                    return holder[key], key, f"{self.pointer}{prefix}/{key}"
        return None, "", ""

    def _wrong(self, key: str, pointer: str, rule: str) -> None:
        self.problems.append(broken(f"Node '{self.node_id}': '{key}' must be {rule}.", pointer, self.node_id, key))

    def number(self, name: str, least: int, most: int, default: float, alias: str = "") -> float:
        value, key, pointer = self._find(name, alias) if alias else self._find(name)
        if isinstance(value, str) and re.fullmatch(r"\d{1,12}(\.\d{1,6})?", value.strip()):
            value = float(value)  # forms send what was typed
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            self._wrong(key, pointer, f"a number from {least} to {most}")
            return default
        return value

    def seconds(self, name: str, most: float, default: float) -> float:
        """A number of them, or a duration such as `1h30m`."""
        value, key, pointer = self._find(name)
        if value is None:
            return default
        try:
            found = durations.seconds_of(value)
        except ValueError:
            found = most + 1
        if found > most:
            self._wrong(key, pointer, f"a number from 0 to {most}, or a duration such as 1h30m that is no longer")
            return default
        return found

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        value, key, pointer = self._find(name)
        if value is not None and value not in choices:
            self._wrong(key, pointer, "one of " + ", ".join(choices))
        return value if value in choices else ""

    def text(self, name: str) -> str:
        value, key, pointer = self._find(name)
        if value is not None and (not isinstance(value, str) or len(value) > LONGEST_NAME):
            self._wrong(key, pointer, f"a text of at most {LONGEST_NAME} characters")
        return value if isinstance(value, str) and len(value) <= LONGEST_NAME else ""

    def connection(self) -> str:
        """Nodes on one connection share its limit unless they name a pool of their own."""
        found = self.config.get("conn_id")
        return found if isinstance(found, str) and len(found) <= LONGEST_NAME else ""


def _read_edges(document: Mapping[str, Any], known: Collection[str], problems: list[Problem]) -> tuple[EdgeSpec, ...]:
    edges = []
    for index, raw in enumerate(_list(document, "edges", MOST_EDGES, problems)):
        pointer = f"/edges/{index}"
        if not isinstance(raw, Mapping):
            problems.append(broken(f"Edge {index + 1} must be an object with 'from' and 'to', not {kind_of(raw)}.", pointer, field="edges"))
            continue
        edge = _read_edge(raw, index, known, problems)
        if edge is not None:
            edges.append(edge)
    return tuple(edges)


def _read_edge(raw: Mapping[str, Any], index: int, known: Collection[str], problems: list[Problem]) -> EdgeSpec | None:
    before = len(problems)
    pointer, ends = f"/edges/{index}", (raw.get("from"), raw.get("to"))
    for key, end in zip(("from", "to"), ends, strict=True):
        if not isinstance(end, str):
            problems.append(broken(f"Edge {index + 1}: '{key}' must be the id of a node.", f"{pointer}/{key}", field="edges"))
        elif end not in known:
            message = f"Edge {index + 1}: '{key}' names the node '{shortened(end)}', which does not exist."
            problems.append(broken(message, f"{pointer}/{key}", field="edges"))
    condition = raw.get("condition")
    if condition is not None and not isinstance(condition, bool):
        problems.append(broken(f"Edge {index + 1}: 'condition' must be true or false.", f"{pointer}/condition", field="edges"))
    if len(problems) == before and ends[0] == ends[1]:
        problems.append(broken(f"Node '{ends[0]}' feeds itself; remove the edge.", pointer, str(ends[0]), "edges"))
    return None if len(problems) > before else EdgeSpec(source=str(ends[0]), target=str(ends[1]), condition=condition)


_ID_RULE = f"must be a text of 1 to {LONGEST_NAME} characters without slashes, control characters, or spaces at its ends"


def _can_be_id(text: str) -> bool:
    """Ids stand in URLs and in the names of tables, so what both cannot carry is refused."""
    return 1 <= len(text) <= LONGEST_NAME and text == text.strip() and text.isprintable() and not set(text) & {"/", "\\"} and text not in (".", "..")
