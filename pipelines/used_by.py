"""Which pipelines use which variables and connections, as rows: written with each version, so that the users of one are found at once."""

from collections.abc import Mapping
from typing import Any, Literal

from brokoli_site.common.errors import Conflict
from pipelines import spec, uses
from pipelines.models import Connection, Pipeline, PipelineUse, Variable
from pipelines.problems import Problem, shortened
from pipelines.spec import NodeSpec, PipelineSpec
from pipelines.stored import types_of
from pipelines.uses import Named

Kind = Literal["variable", "connection"]
MOST_LISTED = 1000
_MOST_NAMED = 10
_MOST_KEPT = 2000  # names of one pipeline
_MOST_WARNINGS = 200
_LONGEST = 100  # characters of a name that something can have


def keep(pipeline: Pipeline, definition: PipelineSpec, *, earlier: Mapping[str, Any] | None = None) -> None:
    """Make the rows of a pipeline those of its new version. Call inside the transaction that saves it.

    `earlier`: the document of the version before. Between two that name nothing there is nothing to ask.
    """
    wanted = _kept(definition)
    if not wanted and (earlier is None or not _kept(spec.read(earlier)[0])):
        return
    have = {} if earlier is None else {(row.kind, row.name): row.id for row in PipelineUse.objects.filter(pipeline=pipeline)}
    if gone := [key for use, key in have.items() if use not in wanted]:
        PipelineUse.objects.filter(id__in=gone).delete()
    if added := sorted(wanted - have.keys()):
        PipelineUse.objects.bulk_create(PipelineUse(pipeline=pipeline, kind=kind, name=name) for kind, name in added)


def users_of(kind: Kind, name: str) -> list[dict[str, Any]]:
    """The pipelines whose current version names it, by name."""
    rows = Pipeline.objects.live().filter(uses__kind=kind, uses__name=name).order_by("name", "id")
    return [dict(row) for row in rows.values("id", "pipeline_id", "name", "enabled")[:MOST_LISTED]]


def refuse_deletion(kind: Kind, name: str) -> None:
    """Errors: `Conflict` naming the pipelines that use it."""
    rows = Pipeline.objects.live().filter(uses__kind=kind, uses__name=name).order_by("name", "id").values_list("name", flat=True)
    names = [f"'{found}'" for found in rows[: _MOST_NAMED + 1]]
    if names:
        more = " and others" if len(names) > _MOST_NAMED else ""
        raise Conflict(f"The {kind} '{name}' is used by {', '.join(names[:_MOST_NAMED])}{more}. Change those first, or delete it with ?force=true.")


def warnings(document: Mapping[str, Any]) -> list[Problem]:
    """One for each place of a document that names what does not exist (yet). Two queries at most."""
    definition, _ = spec.read(document)
    found: dict[tuple[str, str, str], tuple[NodeSpec, Named]] = {}
    for node in definition.nodes:
        for one in uses.named_in(node):
            found.setdefault((node.id, one.kind, one.text), (node, one))
    names = {kind: {one.name for _, one in found.values() if one.kind == kind} for kind in ("connection", "variable")}
    existing = {
        "connection": types_of(Connection.objects.all(), "conn_id", names["connection"]),
        "variable": types_of(Variable.objects.all(), "key", names["variable"]),
    }
    problems: list[Problem] = []
    for node, one in found.values():
        if len(problems) < _MOST_WARNINGS and (fault := _fault(one, existing[one.kind])):
            pointer = f"{node.pointer}/config" + "".join(f"/{part}" for part in one.field.split("."))
            problems.append(Problem(f"Field '{one.field}' {fault}", node.id, one.field, severity="warning", pointer=pointer))
    return problems


def _fault(one: Named, existing: Mapping[str, str]) -> str:
    if one.name not in existing:
        return f"names the {one.kind} '{shortened(one.name)}', which does not exist (yet): until it does, the node fails."
    if one.text.startswith("${secret.") and existing[one.name] != "secret":
        return f"asks for the secret '{shortened(one.name)}', which is a variable that is no secret: write ${{var.{shortened(one.name)}}}."
    return ""


def _kept(definition: PipelineSpec) -> set[tuple[str, str]]:
    """Kind and name of what it uses, as far as that can exist: nothing has a longer name."""
    found = {(one.kind, one.name) for node in definition.nodes for one in uses.named_in(node) if len(one.name) <= _LONGEST}
    return set(sorted(found)[:_MOST_KEPT])
