"""Every node type that this server knows, by name: ours in the table below, third parties' by entry point.

A new type is one class in one module and one line here. Modules are imported when their type is first asked for.
"""

import difflib
import functools
import importlib
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from django.conf import settings
from pydantic import ValidationError

from brokoli_site.common.errors import NodeError
from pipelines.config_problems import config_problems
from pipelines.nodes.base import NodeConfig, NodeType, RunFacts
from pipelines.references import References, UnknownReference
from pipelines.spec import NodeSpec

ENTRY_POINT_GROUP = "brokoli.node_types"

_OWN: dict[str, str] = {
    "aggregate": "pipelines.nodes.aggregate:Aggregate",
    "bash": "pipelines.nodes.bash:Bash",
    "code": "pipelines.nodes.code:Code",
    "filter": "pipelines.nodes.filter:Filter",
    "project": "pipelines.nodes.project:Project",
    "condition": "pipelines.nodes.condition:Condition",
    "sink_db": "pipelines.nodes.sink_db:SinkDb",
    "sink_file": "pipelines.nodes.sink_file:SinkFileNode",
    "migrate": "pipelines.nodes.migrate:Migrate",
    "notify": "pipelines.nodes.notify:Notify",
    "sink_api": "pipelines.nodes.sink_api:SinkApi",
    "source_api": "pipelines.nodes.source_api:SourceApi",
    "source_file": "pipelines.nodes.source_file:SourceFileNode",
    "dbt": "pipelines.nodes.dbt:Dbt",
    "join": "pipelines.nodes.join:Join",
    "quality_check": "pipelines.nodes.quality_check:QualityCheck",
    "source_db": "pipelines.nodes.source_db:SourceDb",
    "sql": "pipelines.nodes.sql:Sql",
    "sql_generate": "pipelines.nodes.sql_generate:SqlGenerate",
    "transform": "pipelines.nodes.transform:Transform",
    "wait": "pipelines.nodes.wait:Wait",
    "union": "pipelines.nodes.union:Union",
}
OWN = tuple(sorted(_OWN))  # the names of ours


class UnknownNodeType(NodeError):
    """There is no such node type."""

    code = "unknown_node_type"


class DisabledNodeType(NodeError):
    """This node type is turned off on this server."""

    code = "disabled_node_type"


class InvalidNodeType(NodeError):
    """A node type that was registered cannot be used."""

    status, code = 500, "invalid_node_type"


def get(type_name: str) -> NodeType:
    """The node type of that name.

    Errors: `UnknownNodeType`, `DisabledNodeType`; `InvalidNodeType` when what a third party registered is no node type.
    """
    if is_disabled(type_name):
        raise DisabledNodeType(
            f"Node type '{type_name}' is turned off on this server. "
            "An operator can allow it by taking it out of BROKOLI_DISABLED_NODE_TYPES (`none` turns no type off)."
        )
    if type_name not in names():
        raise UnknownNodeType(_unknown(type_name))
    return _load(type_name)


def find(type_name: str) -> NodeType | None:
    """The node type of that name, also when it is turned off; None when there is none, or it cannot be loaded."""
    try:
        return _load(type_name) if type_name in names() else None
    except InvalidNodeType:
        return None


def all() -> tuple[NodeType, ...]:  # noqa: A001 - read as `registry.all()`
    """Every node type, by name, those that are turned off too (`is_disabled` tells). What cannot be loaded is left out: `faults` has it."""
    return tuple(found for name in names() if (found := find(name)) is not None)


def names() -> tuple[str, ...]:
    """The names of all node types, sorted, also of those that cannot be loaded. Imports none of them."""
    return tuple(sorted({*_OWN, *_third_party()}))


def faults() -> tuple[str, ...]:
    """What is wrong with the node types of installed packages, a sentence each. Imports them all."""
    found = [f"{_taken(point, _OWN[point.name])} The package's is not used." for point in _entry_points() if point.name in _OWN]
    for name in _third_party():
        try:
            _load(name)
        except InvalidNodeType as error:
            found.append(error.message)
    return tuple(found)


def is_disabled(type_name: str) -> bool:
    """Whether `BROKOLI_DISABLED_NODE_TYPES` turns it off."""
    return type_name in settings.DISABLED_NODE_TYPES


def prepare(node: NodeSpec, facts: RunFacts) -> tuple[NodeType, NodeConfig]:
    """The type of a node that is about to run, and its config: references resolved (in SQL, the node does it; in `raw_keys`, nobody), then validated.

    Errors: those of `get`; `NodeError` naming each field at fault.
    """
    node_type = get(node.type)
    references = References.of(facts)
    untouched = node_type.sql_keys | node_type.raw_keys
    config = {key: value if key in untouched else _resolved(references, key, value) for key, value in node_type.normalise(node.config).items()}
    return node_type, validate(node_type, config)


def _resolved(references: References, key: str, value: Any) -> Any:
    try:
        return references.substitute(value)
    except UnknownReference as error:
        raise UnknownReference(f"Field '{key}': {error.message}") from error


def validate(node_type: NodeType, config: Mapping[str, Any]) -> NodeConfig:
    """The config as the type's model. Errors: `NodeError` naming each field at fault."""
    try:
        return node_type.Config.model_validate(dict(config))
    except ValidationError as error:
        sentence = " ".join(f"Field '{field}' {text}." if field else f"{text}." for field, text, _ in config_problems(error, config))
    # Raised out here, without the ValidationError as its cause: that one may hold a traceback, and so every frame above, and
    # Python's garbage collector cannot see into it. Each wrong config would leak what those frames hold.
    raise NodeError(sentence)


def _load(name: str) -> NodeType:
    found = _loaded(name)
    if isinstance(found, str):
        raise InvalidNodeType(found)
    return found


@functools.cache
def _loaded(name: str) -> NodeType | str:
    """The node type, or what is wrong with it: a package that cannot be imported is not tried again and again."""
    points = _third_party().get(name)
    try:
        return _foreign(name, points) if points is not None else _checked(name, _OWN[name], _import(_OWN[name]))
    except InvalidNodeType as error:
        return error.message
    except (ImportError, AttributeError) as error:
        return f"Node type '{name}' cannot be loaded from {_OWN[name]}: {error}."


def _foreign(name: str, points: Sequence[EntryPoint]) -> NodeType:
    """A node type of an installed package. Errors: `InvalidNodeType`, whatever its code does."""
    if len(points) > 1:
        raise InvalidNodeType(_taken(points[1], points[0].value))
    where = points[0].value
    try:
        found = _checked(name, where, points[0].load())
        found.Config.model_json_schema()
    except InvalidNodeType:
        raise
    except Exception as error:  # others' code: one package that is broken must not take the rest along
        raise InvalidNodeType(f"Node type '{name}' cannot be loaded from {where}: {type(error).__name__}: {error}.") from error
    return found


def _import(path: str) -> object:
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _checked(name: str, where: str, found: object) -> NodeType:
    if not (isinstance(found, type) and issubclass(found, NodeType)):
        raise InvalidNodeType(f"Node type '{name}': {where} is not a class derived from NodeType.")
    missing = [key for key in ("name", "label", "category", "help", "ports", "Config") if not hasattr(found, key)]
    missing += sorted(getattr(found, "__abstractmethods__", ()))
    if missing:
        raise InvalidNodeType(f"Node type '{name}': {where} does not define {', '.join(missing)}.")
    if found.name != name:
        raise InvalidNodeType(f"Node type '{name}': {where} calls itself '{found.name}'; both names must be the same.")
    if not (isinstance(found.Config, type) and issubclass(found.Config, NodeConfig)):
        raise InvalidNodeType(f"Node type '{name}': the Config of {where} is not derived from NodeConfig.")
    return found()


@functools.cache
def _entry_points() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=ENTRY_POINT_GROUP))


@functools.cache
def _third_party() -> dict[str, tuple[EntryPoint, ...]]:
    """The entry points of installed packages by name, but for those that would take the place of one of ours.

    A name that two packages use stands for neither: data must not flow through whichever came first.
    """
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in _entry_points():
        if point.name not in _OWN:
            found[point.name] = (*found.get(point.name, ()), point)
    return found


def _taken(point: EntryPoint, other: str) -> str:
    return f"Node type '{point.name}' is registered twice: by {other} and by {point.value}."


def _unknown(type_name: str) -> str:
    near = difflib.get_close_matches(type_name, names(), n=3, cutoff=0.6)
    if near:
        return f"There is no node type '{type_name}'. Did you mean {' or '.join(repr(name) for name in near)}?"
    return f"There is no node type '{type_name}'. Known types: {', '.join(names())}."
