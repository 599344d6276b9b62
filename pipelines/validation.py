"""What is wrong with a pipeline: everything at once, each problem with its node and field. Pure: no database.

*Structure* is what a pipeline must have to be saved: unique nodes of known types, edges between them, no cycle, a schedule that can
be read. *Config* may be unfinished when it is saved; a run needs it whole.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings
from pydantic import BaseModel, ValidationError

from brokoli_site.common.errors import BrokoliError, NodeError
from pipelines import documents, hooks, parameters, references, schedules, spec, webhook_tokens
from pipelines.config_problems import config_problems, unknown_keys
from pipelines.graph import Graph, cycle_problems
from pipelines.nodes import registry
from pipelines.nodes.base import Analysis, KnownInput, NodeType, Schema
from pipelines.problems import Problem, shortened
from pipelines.spec import InvalidPipeline, NodeSpec, PipelineSpec

CONDITION = "condition"  # the only type of node whose edges may have a condition
MOST_TAGS = 50
LONGEST_TAG = 100
LONGEST_DESCRIPTION = 20_000
LONGEST_SLUG = 100
LONGEST_SCHEDULE = 200
_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_REFERENCE = re.compile(r"\$\{|\{\{")


@dataclass(frozen=True, slots=True)
class Report:
    """Errors keep the pipeline from running; warnings do not."""

    errors: tuple[Problem, ...]
    warnings: tuple[Problem, ...]

    @property
    def valid(self) -> bool:
        return not self.errors


def check_structure(document: Mapping[str, Any]) -> PipelineSpec:
    """The spec of a document that may be saved. Errors: `InvalidPipeline` with every problem of its structure."""
    found, problems = _structure(document)
    if problems:
        raise InvalidPipeline(problems)
    return found


def check(document: Mapping[str, Any]) -> PipelineSpec:
    """The spec of a document that may run. Errors: `InvalidPipeline` with every problem of structure and config."""
    report = validate(document)
    if report.errors:
        raise InvalidPipeline(report.errors)
    return spec.from_document(document)


def validate(document: Mapping[str, Any]) -> Report:
    """Everything that can be said of a document before it runs. Aliases are accepted."""
    besides = {key: document.get(key) for key in ("pipeline_id", webhook_tokens.KEY)}
    document = documents.normalised(document)
    found, structural = _structure({**document, **besides})
    problems = [*structural, *_empty(found), *_configs(found, _cyclic(structural)), *_params(document, found), *_unused(document)]
    problems += hooks.warnings(document, mail=bool(settings.EMAIL_HOST))
    return Report(
        errors=tuple(problem for problem in problems if problem.severity == "error"),
        warnings=tuple(problem for problem in problems if problem.severity == "warning"),
    )


# --- structure ----------------------------------------------------------------------------------------------------


def _structure(document: Mapping[str, Any]) -> tuple[PipelineSpec, list[Problem]]:
    found, read = spec.read(document)
    return found, [*_pipeline_keys(document), *read, *_types(found), *_crowded(found), *_branching(found), *cycle_problems(found)]


def _cyclic(problems: Iterable[Problem]) -> bool:
    return any(problem.pointer == "/edges" for problem in problems)


def _pipeline_keys(document: Mapping[str, Any]) -> Iterator[Problem]:
    """The pipeline's own keys, besides its name, nodes and edges. A missing one has a default."""

    def wrong(key: str, rule: str) -> Problem:
        return Problem(rule, field=key, pointer=f"/{key}")

    given = {key: value for key, value in document.items() if value is not None}
    if not isinstance(given.get("description", ""), str) or len(given.get("description", "")) > LONGEST_DESCRIPTION:
        yield wrong("description", f"'description' must be a text of at most {LONGEST_DESCRIPTION} characters.")
    if not isinstance(given.get("enabled", True), bool):
        yield wrong("enabled", "'enabled' must be true or false.")
    if not isinstance(given.get("params", {}), Mapping):
        yield wrong("params", "'params' must be an object: the default value of each parameter by its name.")
    tags = given.get("tags", [])
    if not isinstance(tags, list) or len(tags) > MOST_TAGS or not all(isinstance(tag, str) and 1 <= len(tag) <= LONGEST_TAG for tag in tags):
        yield wrong("tags", f"'tags' must be a list of at most {MOST_TAGS} texts of 1 to {LONGEST_TAG} characters.")
    slug = given.get("pipeline_id", "")
    if slug != "" and (not isinstance(slug, str) or len(slug) > LONGEST_SLUG or not _SLUG.fullmatch(slug)):
        yield wrong("pipeline_id", f"'pipeline_id' must be 1 to {LONGEST_SLUG} letters, digits, '_', '-' or '.', and begin with a letter or digit.")
    yield from _schedule(given)
    yield from webhook_tokens.problems(given)


def _schedule(given: Mapping[str, Any]) -> Iterator[Problem]:
    schedule, zone = given.get("schedule", ""), given.get("schedule_timezone", "")
    if not isinstance(schedule, str) or len(schedule) > LONGEST_SCHEDULE:
        yield Problem(f"'schedule' must be a text of at most {LONGEST_SCHEDULE} characters.", field="schedule", pointer="/schedule")
    elif schedule.strip() and (fault := schedules.schedule_fault(schedule)):
        yield Problem(fault, field="schedule", pointer="/schedule")
    if zone != "" and (fault := schedules.zone_fault(zone)):
        yield Problem(fault, field="schedule_timezone", pointer="/schedule_timezone")


def _types(found: PipelineSpec) -> Iterator[Problem]:
    for node in found.nodes:
        if node.type:  # a missing one is named already
            fault = _type_fault(node.type)
            if fault:
                yield Problem(f"Node '{node.id}': {fault}", node_id=node.id, field="type", pointer=node.pointer + "/type")


def _type_fault(name: str) -> str:
    try:
        registry.get(name)
    except NodeError as error:
        return shortened(error.message, 500)
    return ""


def _crowded(found: PipelineSpec) -> Iterator[Problem]:
    """Nodes with more inputs than their type takes: no config can make that right."""
    for node, node_type, count in _connected(found):
        most = node_type.ports.most
        if most is not None and count > most:
            takes = "no input" if most == 0 else f"at most {_inputs(most)}"
            message = f"Node '{node.id}': a {node.type} node takes {takes}, and {count} edges lead to it. Remove what is too much."
            yield Problem(message, node_id=node.id, field="edges", pointer=node.pointer)


def _branching(found: PipelineSpec) -> Iterator[Problem]:
    """Edges of branches: only conditions have them, and one edge cannot lie on both."""
    nodes = {node.id: node for node in found.nodes}
    branches: dict[tuple[str, str], set[bool]] = {}
    for edge in found.edges:
        if edge.condition is None:
            continue
        source = nodes[edge.source]
        if source.type != CONDITION:
            message = (
                f"The edge from '{edge.source}' to '{edge.target}' has a condition, and '{edge.source}' is no condition node (its type is "
                f"'{shortened(source.type)}'). Take the condition off the edge."
            )
            yield Problem(message, node_id=edge.source, field="edges", pointer=source.pointer)
        branches.setdefault((edge.source, edge.target), set()).add(edge.condition)
    for (before, after), both in branches.items():
        if len(both) > 1:
            message = f"Edges of both branches lead from '{before}' to '{after}': draw one edge without a condition, or remove one of them."
            yield Problem(message, node_id=before, field="edges", pointer=nodes[before].pointer)


def _connected(found: PipelineSpec) -> Iterator[tuple[NodeSpec, NodeType, int]]:
    """Each node of a usable type, with the number of edges that lead to it."""
    inputs = _inputs_by_node(found)
    for node in found.nodes:
        if node.type and not _type_fault(node.type):
            yield node, registry.get(node.type), len(inputs[node.id])


def _inputs_by_node(found: PipelineSpec) -> dict[str, list[str]]:
    """Without the edges from control nodes to nodes that take no input: those say only what comes first."""
    known = {name: registry.get(name) for name in {node.type for node in found.nodes} if name and not _type_fault(name)}
    control = {node.id for node in found.nodes if node.type in known and known[node.type].category == "control"}
    without = {node.id for node in found.nodes if node.type in known and known[node.type].ports.most == 0}
    inputs: dict[str, list[str]] = {node.id: [] for node in found.nodes}
    for edge in found.edges:
        if not (edge.source in control and edge.target in without):
            inputs[edge.target].append(edge.source)
    return inputs


def _inputs(count: int) -> str:
    return "1 input" if count == 1 else f"{count} inputs"


# --- config -------------------------------------------------------------------------------------------------------


def _empty(found: PipelineSpec) -> Iterator[Problem]:
    if not found.nodes:
        yield Problem("The pipeline has no nodes; there is nothing to run.", field="nodes", pointer="/nodes")


def _configs(found: PipelineSpec, cyclic: bool) -> list[Problem]:
    """Problems of each node, in document order. Schemas flow along the graph, as far as they are known."""
    nodes = {node.id: node for node in found.nodes}
    inputs = _inputs_by_node(found)
    schemas: dict[str, Schema | None] = dict.fromkeys(nodes)
    problems: dict[str, list[Problem]] = {}
    _expect(found)
    for node_id in nodes if cyclic else Graph(found).order:
        node = nodes[node_id]
        problems[node_id] = []
        if node.type and not _type_fault(node.type):
            given = [KnownInput(source, nodes[source].name, schemas[source]) for source in inputs[node_id]]
            schemas[node_id] = _node(node, registry.get(node.type), given, problems[node_id])
    return [problem for node_id in nodes for problem in problems[node_id]]


def _expect(found: PipelineSpec) -> None:
    """Tell each type of all its nodes before the first is looked at."""
    configs: dict[str, list[Mapping[str, Any]]] = {}
    for node in found.nodes:
        configs.setdefault(node.type, []).append(node.config)
    for name, given in configs.items():
        if name and not _type_fault(name):
            registry.get(name).expect(given)


def _node(node: NodeSpec, node_type: NodeType, inputs: Sequence[KnownInput], problems: list[Problem]) -> Schema | None:
    """The columns that the node produces, where they can be known; its problems are added to `problems`."""
    least = node_type.ports.least
    if len(inputs) < least:
        has = "none" if not inputs else f"only {len(inputs)}"
        problems.append(
            Problem(f"Node '{node.id}' needs {_inputs(least)} and has {has}; draw an edge to it.", node.id, "edges", pointer=node.pointer)
        )
    config, faults = _config(node, node_type)
    problems.extend(faults)
    most = node_type.ports.most
    if len(inputs) < least or (most is not None and len(inputs) > most):
        return None
    known = documents.NODE_SETTINGS  # an underscore begins the SDK's notes to itself, such as `_schema_hint`
    problems.extend(
        _unknown(node, key) for key in (unknown_keys(config) if config is not None else ()) if key not in known and not key.startswith("_")
    )
    try:
        analysis = Analysis(node_type.analyse_faulty(node, inputs)) if config is None else node_type.analyse_inputs(node, config, inputs)
    except BrokoliError as error:
        problems.append(
            Problem(error.message, node.id, line=getattr(error, "line", None), column=getattr(error, "column", None), pointer=node.pointer)
        )
        return None
    problems.extend(replace(problem, node_id=node.id, pointer=_pointer(node, problem.field)) for problem in analysis.problems)
    return analysis.schema


def _config(node: NodeSpec, node_type: NodeType) -> tuple[BaseModel | None, list[Problem]]:
    """The config as its model, or what is wrong with it. A value that a reference will fill in can only be judged by the run."""

    def filled_in(field: str, value: Any) -> bool:
        return isinstance(value, str) and field.split(".", maxsplit=1)[0] not in node_type.raw_keys and _REFERENCE.search(value) is not None

    try:
        return node_type.Config.model_validate(dict(node.config)), []
    except ValidationError as error:
        return None, [
            Problem(f"Field '{field}' {sentence}." if field else f"{sentence}.", node.id, field, pointer=_pointer(node, field))
            for field, sentence, value in config_problems(error, node.config)
            if not filled_in(field, value)
        ]


def _pointer(node: NodeSpec, field: str) -> str:
    return f"{node.pointer}/config" + "".join(f"/{part}" for part in field.split(".") if part)


def _unknown(node: NodeSpec, key: str) -> Problem:
    message = f"Field '{shortened(key)}' is not known to a {node.type} node; it is kept and does nothing."
    return Problem(message, node.id, key, severity="warning", pointer=_pointer(node, key))


# --- params -------------------------------------------------------------------------------------------------------


def _params(document: Mapping[str, Any], found: PipelineSpec) -> Iterator[Problem]:
    yield from parameters.warnings(document, found.parameters, found.params)
    known = {*found.params, *(parameter.name for parameter in found.parameters)}
    for node in found.nodes:
        if node.type and not _type_fault(node.type):
            raw = registry.get(node.type).raw_keys
            for field, name in _asked_for({key: value for key, value in node.config.items() if key not in raw}):
                if name not in known:
                    yield _unknown_param(node, field, name, sure=bool(found.parameters) and name != parameters.ALWAYS_GIVEN)


def _asked_for(value: Any, field: str = "") -> Iterator[tuple[str, str]]:
    """(dotted field, name of a param) for each name in each text of a config."""
    if isinstance(value, str):
        if "{" in value:
            names = (found.name for found in references.find(value) if found.kind == "param" and found.name and not found.escaped)
            yield from ((field, name) for name in dict.fromkeys(names))
    elif isinstance(value, Mapping | list):
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _asked_for(inner, f"{field}.{key}" if field else str(key))


def _unknown_param(node: NodeSpec, field: str, name: str, *, sure: bool) -> Problem:
    name = shortened(name)
    if sure:
        message = f"Field '{field}' uses the parameter '{name}', which the pipeline does not declare."
    else:
        message = f"Field '{field}' uses the parameter '{name}', which has no default: each run must be given one, or the node fails."
    return Problem(message, node.id, field, severity="error" if sure else "warning", pointer=_pointer(node, field))


# --- what is kept without being used ------------------------------------------------------------------------------


def _unused(document: Mapping[str, Any]) -> Iterator[Problem]:
    """One warning a key, however many nodes have it."""
    for key in document:
        if key not in documents.DEFAULTS and key not in documents.OPTIONAL_KEYS and key not in documents.SERVER_KEYS:
            yield Problem(f"'{shortened(key)}' is kept, but this server does nothing with it.", field=key, severity="warning")
    for part, known in (("nodes", documents.NODE_KEYS), ("edges", documents.EDGE_KEYS)):
        items = document.get(part)
        counts: dict[str, int] = {}
        for item in items if isinstance(items, list) else ():
            for key in item if isinstance(item, Mapping) else ():
                if key not in known:
                    counts[key] = counts.get(key, 0) + 1
        for key, count in counts.items():
            message = f"'{shortened(key)}' of {count} {part if count > 1 else part[:-1]} is kept, but this server does nothing with it."
            yield Problem(message, field=f"{part}.{key}", severity="warning")
