"""What the audit log is told of pipelines, connections and variables: their states, without secrets."""

from collections.abc import Mapping
from typing import Any

from brokoli_site.common import audit
from pipelines import webhook_tokens
from pipelines.models import Pipeline

_SWITCH = frozenset({"enabled"})


def pipeline_state(slug: str, version: int, document: Mapping[str, Any], comment: str = "") -> dict[str, Any]:
    """A pipeline at a version."""
    known = {"pipeline_id": slug, "version": version} | ({"comment": comment} if comment else {})
    return known | {key: value for key, value in webhook_tokens.without(document).items() if key != "pipeline_id"}


def pipeline_changed(action: str, pipeline: Pipeline, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> None:
    """Call in the transaction that changes it. One that is only switched on or off is `enabled` or `disabled`."""
    if action == "updated" and before and after and _differing(before, after) == _SWITCH:
        action = "enabled" if after["enabled"] else "disabled"
    audit.record(f"pipeline.{action}", "pipeline", pipeline.id, pipeline.name, before=before, after=after)


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    return {key for key in {*before, *after} - {"version", "comment"} if before.get(key) != after.get(key)}


def webhook_token_changed(action: str, pipeline: Pipeline) -> None:
    """Call in the transaction that changes it."""
    audit.record(f"webhook_token.{action}", "webhook_token", pipeline.id, pipeline.name)
