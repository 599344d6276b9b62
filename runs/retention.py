"""What may be deleted: files that no output names. (Old runs are kept until somebody purges them.)"""

from collections.abc import Collection

from brokoli_site.common.ids import parse_id
from runs.artifacts import ArtifactStore, Pruned
from runs.models import NodeOutput, Run
from runs.states import ACTIVE


def collect_strays(store: ArtifactStore) -> Pruned:
    """Delete drafts, artifacts that a killed worker wrote but never registered, and what dead processes spilled.

    Runs that have not ended are left alone: a worker may have renamed a file and not yet registered it. So is what is no run's.
    """

    def keep(run_id: str, keys: frozenset[str]) -> Collection[str] | None:
        known = parse_id(run_id)
        if known is None or Run.objects.filter(id=known, status__in=sorted(ACTIVE)).exists():
            return None
        # Named by any run's output, not only its own: a resumed run reuses the artifacts of the run before.
        return set(NodeOutput.objects.filter(artifact__in=keys).values_list("artifact", flat=True))

    return store.prune(keep)
