"""The lineage of each pipeline's current version, as rows: written with the version, so that the whole is read without reading definitions.

What was saved before these rows existed, by a server that saw less, or while a connection was another, is caught up with by the workers.
"""

import time
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import F, Q, QuerySet

from brokoli_site.common.errors import BrokoliError
from pipelines import spec
from pipelines.assets import graph
from pipelines.assets.graph import Graph
from pipelines.assets.values import Database, Databases
from pipelines.databases import places
from pipelines.databases.generic import dialect_of
from pipelines.models import Connection, Pipeline, PipelineAsset, PipelineLineage, PipelineVersion
from pipelines.spec import PipelineSpec
from pipelines.vault import ConnectionDetails

REVISION = 2  # raise it when the same definition gives another lineage: the workers then tell it anew
_AT_ONCE, _SECONDS = 50, 2.0


@dataclass(frozen=True, slots=True)
class Part:
    """One pipeline's part of the whole; `text` is what `graph.loaded` reads."""

    pipeline_id: uuid.UUID
    pipeline: str
    text: str


def lineage_of(definition: PipelineSpec) -> Graph:
    """Outside of any transaction: parsing SQL may take a while."""
    return graph.of_pipeline(definition, databases_named(graph.named_of(definition)))


def keep(pipeline_id: uuid.UUID, version: int, found: Graph) -> None:
    """Make the rows of a pipeline those of its new version. Call inside the transaction that saves it."""
    text = found.dumped()
    row = PipelineLineage(pipeline_id=pipeline_id, version=version, revision=REVISION, stale=False, graph=text)
    PipelineLineage.objects.bulk_create(
        [row], update_conflicts=True, unique_fields=["pipeline"], update_fields=["version", "revision", "stale", "graph"]
    )
    wanted = set(found.shared_ids())
    have = (
        {asset: number for number, asset in PipelineAsset.objects.filter(pipeline_id=pipeline_id).values_list("id", "asset")} if version > 1 else {}
    )
    if gone := [number for asset, number in have.items() if asset not in wanted]:
        PipelineAsset.objects.filter(id__in=gone).delete()
    if added := sorted(wanted - have.keys()):
        PipelineAsset.objects.bulk_create((PipelineAsset(pipeline_id=pipeline_id, asset=asset) for asset in added), ignore_conflicts=True)


def doubt(conn_id: str) -> None:
    """A connection is another now: what the queries for it mean is told anew, soon."""
    users = Pipeline.objects.live().filter(uses__kind="connection", uses__name=conn_id).values("id")
    PipelineLineage.objects.filter(pipeline__in=users).update(stale=True)


def pending() -> QuerySet[Pipeline]:
    """Pipelines whose lineage is not told yet, or of another version, or in doubt."""
    told = Q(lineage__version=F("version"), lineage__revision__gte=REVISION, lineage__stale=False)
    return Pipeline.objects.live().exclude(id__in=Pipeline.objects.filter(told).values("id")).order_by("id")


def catch_up(most: int = _AT_ONCE, seconds: float = _SECONDS) -> int:
    """Tell the lineage of some of those, beginning none after so many seconds. Returns how many."""
    end, count = time.monotonic() + seconds, 0
    for pipeline_id, version in pending().values_list("id", "version")[:most]:
        if time.monotonic() >= end:
            break
        count += 1
        document = PipelineVersion.objects.filter(pipeline_id=pipeline_id, number=version).values_list("document", flat=True).first()
        found = lineage_of(_read(document))
        with transaction.atomic():
            current = Pipeline.objects.live().select_for_update(no_key=True).filter(id=pipeline_id, version=version)
            if current.exists():
                PipelineAsset.objects.filter(pipeline_id=pipeline_id).delete()
                keep(pipeline_id, version, found)
    return count


def parts(assets: Collection[str] | None = None, pipelines: Collection[uuid.UUID] = ()) -> list[Part]:
    """The parts of all live pipelines; or of those alone that have one of these assets, and of these pipelines. One query."""
    rows = PipelineLineage.objects.filter(pipeline__deleted_at__isnull=True)
    if assets is not None:
        having = PipelineAsset.objects.filter(asset__in=list(assets)).values("pipeline")
        rows = rows.filter(Q(pipeline__in=having) | Q(pipeline__in=list(pipelines)))
    return [Part(*row) for row in rows.order_by("pipeline").values_list("pipeline_id", "pipeline__name", "graph")]


def databases_named(names: Collection[str]) -> Databases:
    """What the SQL of these connections is, as far as they exist."""
    if not names:
        return {}
    rows = Connection.objects.filter(conn_id__in=sorted(names), type__in=places.CONNECTION_TYPES)
    return {row.conn_id: _database(row) for row in rows}


def _database(row: Connection) -> Database:
    try:
        place = places.of_connection(ConnectionDetails(row.conn_id, row.type, row.host, row.port, row.schema, row.login, "", row.extra))
    except BrokoliError:
        return Database("" if row.type == "generic" else row.type)
    return Database(dialect_of(place), place.database)


def _read(document: Any) -> PipelineSpec:
    try:
        return spec.read(document if isinstance(document, Mapping) else {})[0]
    except (BrokoliError, AttributeError, TypeError, ValueError):
        return spec.read({})[0]  # a document of long ago that nobody can read is no reason to stop
