"""Find pipelines, nodes, connections, variables and runs by a piece of text. What is secret is neither searched nor shown."""

import heapq
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from pipelines import search_terms
from pipelines.models import Connection, Pipeline, SearchTerm, Variable
from runs.api.lookup import shown_runs
from runs.models import Run

DEFAULT_RESULTS, MOST_RESULTS = 30, 100
LONGEST_QUERY = 200
KINDS = ("pipeline", "connection", "variable", "run", "node")  # in this order where they are met equally well
# What a user needs to see each.
RIGHTS = {"pipeline": "pipelines.view", "connection": "connections.view", "variable": "variables.view", "run": "runs.view", "node": "pipelines.view"}
_SHORTEST_ID = 4  # digits of a run's id: with fewer, any text that begins like a number would find all runs
_ID_DIGITS = 32
_MOST_STORED = 20_000  # connections, and variables, that are looked through


@dataclass(frozen=True, slots=True)
class Found:
    """A result. `rank` says how well it is met: see `search_terms`."""

    rank: int
    type: str
    id: str
    name: str
    description: str
    meta: str  # a pipeline's schedule; the type of a connection, variable or node; a run's status
    pipeline_id: str | None = None
    pipeline: str | None = None

    def shown(self) -> dict[str, Any]:
        names = ("type", "id", "name", "description", "meta", "pipeline_id", "pipeline")
        return {name: getattr(self, name) for name in names}


def search(q: str, limit: int = DEFAULT_RESULTS, kinds: Collection[str] = KINDS) -> list[dict[str, Any]]:
    """The best results of these kinds: those met exactly, then those whose name begins so, then the others. At most five queries."""
    wanted = search_terms.fold(q)
    if not wanted:
        return []
    found = [*_pipelines_and_nodes(wanted, limit, kinds)]
    for kind, look in _STORED.items():
        found += look(wanted) if kind in kinds else ()
    found += _runs(q.strip(), limit) if "run" in kinds else ()
    order = {kind: place for place, kind in enumerate(KINDS)}
    return [one.shown() for one in heapq.nsmallest(limit, found, key=lambda one: (one.rank, order[one.type]))]


def _pipelines_and_nodes(wanted: str, limit: int, kinds: Collection[str]) -> list[Found]:
    shown = [kind for kind in ("pipeline", "node") if kind in kinds]
    if not shown:
        return []
    terms = list(search_terms.meeting(wanted).filter(kind__in=shown)[:limit])
    rows = {row.pk: row for row in Pipeline.objects.filter(id__in={term.pipeline_id for term in terms}).order_by()}
    return [_of_term(term, rows[term.pipeline_id]) for term in terms if term.pipeline_id in rows]


def _of_term(term: SearchTerm, pipeline: Pipeline) -> Found:
    place = (str(pipeline.id), pipeline.name)
    rank: int = term.rank  # type: ignore[attr-defined]  # annotated
    if term.kind == "pipeline":
        return Found(rank, "pipeline", str(pipeline.id), pipeline.name, pipeline.description, pipeline.schedule, *place)
    return Found(rank, "node", term.node_id, term.name, f"Node of {pipeline.name}", term.type, *place)


def _connections(wanted: str) -> Iterator[Found]:
    for key, name, kind, description in Connection.objects.order_by("conn_id").values_list("id", "conn_id", "type", "description")[:_MOST_STORED]:
        rank = search_terms.met(search_terms.folded((name,), f"{kind} {description}"), wanted)
        if rank is not None:
            yield Found(rank, "connection", str(key), name, description, kind)


def _variables(wanted: str) -> Iterator[Found]:
    for key, kind, description in Variable.objects.order_by("key").values_list("key", "type", "description")[:_MOST_STORED]:
        rank = search_terms.met(search_terms.folded((key,), description), wanted)
        if rank is not None:
            yield Found(rank, "variable", key, key, description, kind)


_STORED: dict[str, Callable[[str], Iterator[Found]]] = {"connection": _connections, "variable": _variables}


def _runs(text: str, limit: int) -> list[Found]:
    """Those whose id begins so, newest first."""
    ends = id_range(text)
    if ends is None:
        return []
    rank = search_terms.EXACT if ends[0] == ends[1] else search_terms.BEGINS
    return [
        _of_run(run, rank)
        for run in shown_runs().filter(id__range=ends).recent().only("id", "status", "trigger", "created_at", "pipeline_id")[:limit]
    ]


def _of_run(run: Run, rank: int) -> Found:
    name: str = run.pipeline_name  # type: ignore[attr-defined]  # annotated
    made = f"{run.created_at:%Y-%m-%d %H:%M:%S} UTC"
    return Found(rank, "run", str(run.id), name, f"Run of {name}, made {made} ({run.trigger})", run.status, str(run.pipeline_id), name)


def id_range(text: str) -> tuple[uuid.UUID, uuid.UUID] | None:
    """The least and the greatest id that begin like `text`, hyphens where they belong or left out; None when no id can, or it is too short."""
    digits = text.replace("-", "").lower()
    if not _SHORTEST_ID <= len(digits) <= _ID_DIGITS or set(digits) - set("0123456789abcdef"):
        return None
    least, greatest = (uuid.UUID(digits.ljust(_ID_DIGITS, filler)) for filler in "0f")
    return (least, greatest) if "-" not in text or str(least).startswith(text.lower()) else None
