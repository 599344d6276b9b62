"""What somebody may name in what they save: to name a thing is to use it, and that takes a right on the thing.

- A pipeline that names a connection, or a secret variable, uses its credentials with every run: `connections.view`, `variables.view`.
- A connection or variable that names a secret outside (`env://…`, `file://…`) hands out what the operator keeps for the server: `settings.edit`.

What stays as it is stored is nobody's naming: who renames a pipeline need not be allowed to use what its nodes use. Hooks can name neither
(see `hooks`). A user is whatever answers `has_perm`; None, a command of the operator's, may name anything.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from brokoli_site.common.problems import BodyError, escaped
from pipelines import references, secret_stores, spec, uses
from pipelines.models import Variable
from pipelines.problems import shortened
from pipelines.spec import NodeSpec, PipelineSpec
from pipelines.stored import types_of
from pipelines.uses import Named

_MOST_TOLD = 200
_RIGHT = {"connection": "connections.view", "variable": "variables.view"}
_OUTSIDE_RIGHT = "settings.edit"


class User(Protocol):
    def has_perm(self, perm: str) -> bool: ...


class MayNotName(BodyError):
    """You may not name this."""

    status, code = 403, "permission_denied"


def refuse_uses(definition: PipelineSpec, user: User | None, *, earlier: Mapping[str, Any] | None = None) -> None:
    """Errors: `MayNotName` with each place that names what the user may not use. `earlier` is the stored document, whose nodes may stay."""
    lacking = {kind for kind, right in _RIGHT.items() if user is not None and not user.has_perm(right)}
    if not lacking:
        return
    before = spec.read(earlier)[0] if earlier is not None else None
    stored = {node.id: node for node in before.nodes} if before else {}
    same_params = before is not None and (before.params, before.parameters) == (definition.params, definition.parameters)
    named = [
        (node, one)
        for node in definition.nodes
        for one in (*uses.named_in(node), *uses.named_later(node))
        if one.kind in lacking and not _stays(node, one, stored, same_params=same_params)
    ]
    open_ones = _open_variables(one.name for _, one in named if one.kind == "variable")
    errors = {
        f"{node.pointer}/config" + "".join(f"/{escaped(part)}" for part in one.field.split(".")): [_sentence(one)]
        for node, one in named
        if not (one.text.startswith("${var.") and one.name in open_ones)
    }
    if errors:
        raise MayNotName(dict(list(errors.items())[:_MOST_TOLD]))


def refuse_params(definition: PipelineSpec, params: Mapping[str, Any], user: User | None) -> None:
    """Errors: `MayNotName` with each param of a run that names a connection for a node of it."""
    right = _RIGHT["connection"]
    if not params or user is None or user.has_perm(right):
        return
    found = (reference for node in definition.nodes for one in uses.named_later(node) for reference in references.find(one.text))
    names = {reference.name for reference in found if reference.kind == "param" and not reference.escaped and reference.name in params}
    if names:
        raise MayNotName(
            {f"/params/{escaped(name)}": [f"This parameter names a connection, which needs the right {right}."] for name in sorted(names)}
        )


def refuse_outside(given: Mapping[str, Any], user: User | None, *, known: Mapping[str, Any]) -> None:
    """Errors: `MayNotName` with each place that newly names a secret outside. Both are secrets by JSON Pointer; `known` are those that are stored."""
    if user is None or user.has_perm(_OUTSIDE_RIGHT):
        return
    was = dict(_outside(known))
    sentence = f"Naming a secret that the server keeps outside needs the right {_OUTSIDE_RIGHT}; give the secret itself, or ask an administrator."
    errors = {pointer: [sentence] for pointer, text in _outside(given) if was.get(pointer) != text}
    if errors:
        raise MayNotName(errors)


def _stays(node: NodeSpec, one: Named, stored: Mapping[str, NodeSpec], *, same_params: bool) -> bool:
    """Whether the node is as it is stored, and what its reference stands for as well."""
    before = stored.get(node.id)
    if before is None or (before.type, before.config) != (node.type, node.config):
        return False
    return same_params or one.kind == "variable" or not any(found.kind == "param" for found in references.find(one.text))


def _open_variables(names: Iterator[str]) -> set[str]:
    """Those that exist and are no secrets. One that does not exist may be made a secret later."""
    wanted = set(names)
    return {name for name, kind in types_of(Variable.objects.all(), "key", wanted).items() if kind != "secret"} if wanted else set()


def _sentence(one: Named) -> str:
    what = f"the {'secret' if one.kind == 'variable' else 'connection'} '{shortened(one.name)}'" if one.name else "a connection by a reference"
    return f"Naming {what} in a pipeline needs the right {_RIGHT[one.kind]}. Leave the node as it is stored, or ask an administrator."


def _outside(value: Any, pointer: str = "") -> Iterator[tuple[str, str]]:
    """Pointer and text of each reference to a store in a JSON value."""
    if isinstance(value, str):
        if secret_stores.is_reference(value):
            yield pointer, value
    elif isinstance(value, Mapping | list):
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _outside(inner, f"{pointer}/{escaped(str(key))}")
