"""What pipelines and their nodes are found by, as rows: written with each version, so that a search reads no definition.

Databases do not agree on which letters are the same but for their case, and SQLite knows only those of English: texts are folded here, once.
"""

import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

from django.db.models import Case, IntegerField, QuerySet, Value, When
from django.db.models.functions import StrIndex

from pipelines.models import Pipeline, SearchTerm
from pipelines.spec import PipelineSpec

EXACT, BEGINS, CONTAINS = 0, 1, 2  # how well a text is met, best first
_LONGEST = 10_000  # characters of a text that are searched
_END, _MORE = "\n", "\r"  # around a name; before what is no name. No folded text holds either
_AT_ONCE = 500

Key = tuple[str, str, str, str]  # node id (empty: the pipeline), name, type, folded


def fold(text: str) -> str:
    """The text as it is compared: without case, in one Unicode form, runs of white space as one space."""
    composed = unicodedata.normalize("NFC", text[:_LONGEST])
    return unicodedata.normalize("NFC", " ".join(composed.casefold().split()))


def folded(names: tuple[str, ...], more: str = "") -> str:
    """Names, which a search may meet exactly or begin with, and a text that it may only meet somewhere."""
    return _END + "".join(fold(name) + _END for name in names) + (_MORE + fold(more) if more else "")


def met(text: str, q: str) -> int | None:
    """How well a folded text meets a folded, non-empty `q`; None when not at all."""
    if q not in text:
        return None
    return EXACT if _END + q + _END in text else BEGINS if _END + q in text else CONTAINS


def meeting(q: str) -> QuerySet[SearchTerm]:
    """The rows that meet a folded, non-empty `q`, with `rank`, the best first. What it is made of stands for itself: nothing is a wildcard."""
    at = StrIndex("folded", Value(q))
    rank = Case(When(exactly__gt=0, then=Value(EXACT)), When(begins__gt=0, then=Value(BEGINS)), default=Value(CONTAINS), output_field=IntegerField())
    rows = SearchTerm.objects.alias(at=at, exactly=StrIndex("folded", Value(_END + q + _END)), begins=StrIndex("folded", Value(_END + q))).filter(
        at__gt=0
    )
    return rows.annotate(rank=rank).order_by("rank", "-kind", "-pipeline_id", "id")


def keep(pipeline: Pipeline, definition: PipelineSpec, *, earlier: Iterable[Key] = ()) -> None:
    """Make the rows of a pipeline those of its current version. Call inside the transaction that saves it.

    `earlier`: the keys of the version before; where they are the same there is nothing to ask.
    """
    wanted, before = set(keys(pipeline.pipeline_id, pipeline.name, pipeline.description, definition)), set(earlier)
    if wanted == before:
        return
    have = {(row.node_id, row.name, row.type, row.folded): row.id for row in SearchTerm.objects.filter(pipeline=pipeline)} if before else {}
    gone = [row_id for key, row_id in have.items() if key not in wanted]
    for start in range(0, len(gone), _AT_ONCE):
        SearchTerm.objects.filter(id__in=gone[start : start + _AT_ONCE]).delete()
    added = sorted(wanted - have.keys())
    SearchTerm.objects.bulk_create((row(pipeline.pk, key) for key in added), batch_size=_AT_ONCE)


def forget(pipeline: Pipeline) -> None:
    """The pipeline is deleted."""
    SearchTerm.objects.filter(pipeline=pipeline).delete()


def keys(slug: str, name: str, description: str, definition: PipelineSpec) -> Iterator[Key]:
    """The rows of a version: of the pipeline, and of each node."""
    yield "", name, "", folded((name, slug), description)
    for node in definition.nodes:
        yield node.id, node.name, node.type, folded((node.name, node.id))


def row(pipeline_id: Any, key: Key, make: Any = SearchTerm) -> Any:
    node_id, name, kind, text = key
    return make(pipeline_id=pipeline_id, kind="node" if node_id else "pipeline", node_id=node_id, name=name, type=kind, folded=text)
