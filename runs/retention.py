"""What may be deleted: files that no output names. (Old runs are kept until somebody purges them.)"""

import time
from collections.abc import Collection

import structlog

from brokoli_site.common.ids import parse_id
from runs.artifacts import ArtifactStore, Pruned
from runs.models import NodeOutput, Run

logger = structlog.get_logger(__name__)

_RECENT_SECONDS = 7 * 24 * 3600.0


def collect_strays(store: ArtifactStore) -> Pruned:
    """Delete drafts, artifacts that a killed worker wrote but never registered, and what dead processes spilled.

    Runs that have not ended are left alone: a worker may have renamed a file and not yet registered it. So is what is no run's.
    Folders that nothing was written to for a week are not looked into, so that the work does not grow with history.
    """
    oldest = time.time() - _RECENT_SECONDS

    def keep(run_id: str, keys: frozenset[str]) -> Collection[str] | None:
        known = parse_id(run_id)
        if known is None or store.run_folder(run_id).stat().st_mtime < oldest or Run.objects.active().filter(id=known).exists():
            return None
        # Named by any run's output, not only its own: a resumed run reuses the artifacts of the run before.
        return set(NodeOutput.objects.filter(artifact__in=keys).values_list("artifact", flat=True))

    pruned = store.prune(keep)
    if pruned.files:
        logger.info("strays deleted", files=pruned.files, bytes=pruned.byte_count)
    return pruned
