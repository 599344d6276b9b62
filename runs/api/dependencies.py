"""What a pipeline waits for, and who waits for it."""

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from brokoli_site.common.api import ApiView
from brokoli_site.common.openapi import problems
from pipelines.dependencies import MODES, STATES
from pipelines.models import PipelineDependency
from runs import dependencies
from runs.api.lookup import find_pipeline
from runs.api.serializers import RUN_STATUSES, Moment
from runs.dependencies import Standing


class EndedRunSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=RUN_STATUSES)
    finished_at = Moment()


class _RuleSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField(help_text="Of the other pipeline.")
    pipeline_id = serializers.CharField(help_text="Its slug.")
    name = serializers.CharField()
    enabled = serializers.BooleanField()
    state = serializers.ChoiceField(choices=STATES, help_text="How the last ended run of the upstream must have ended.")
    mode = serializers.ChoiceField(choices=MODES)
    within_seconds = serializers.IntegerField(allow_null=True)


class UpstreamSerializer(_RuleSerializer):
    holds = serializers.BooleanField(help_text="Whether the rule holds now.")
    reason = serializers.CharField(allow_blank=True, help_text="Why it does not, or empty.")
    last_run = EndedRunSerializer(allow_null=True, help_text="The last run of the upstream that has ended.")


class DependentSerializer(_RuleSerializer):
    pass


def _rule(rule: PipelineDependency, other: Any) -> dict[str, Any]:
    return {
        "id": other.id,
        "pipeline_id": other.pipeline_id,
        "name": other.name,
        "enabled": other.enabled,
        "state": rule.state,
        "mode": rule.mode,
        "within_seconds": rule.within_seconds,
    }


def _upstream(standing: Standing) -> dict[str, Any]:
    shown = {"holds": standing.holds, "reason": standing.reason, "last_run": standing.last_run}
    return dict(UpstreamSerializer(_rule(standing.rule, standing.rule.upstream) | shown).data)


class PipelineDependenciesView(ApiView):
    """`GET /api/pipelines/{id}/deps`"""

    required_permissions: ClassVar = {"GET": "pipelines.view"}

    @extend_schema(
        operation_id="list_dependencies",
        summary="What a pipeline depends on",
        description="Each rule, whether it holds now, why not, and the run that it looks at. `{pipeline_id}` is the id or the slug.",
        tags=["dependencies"],
        responses={200: UpstreamSerializer(many=True), **problems(404)},
    )
    def get(self, request: Request, pipeline_id: str) -> Response:
        found = dependencies.standings(find_pipeline(pipeline_id).id)
        return Response([_upstream(standing) for standing in found])


class PipelineDependentsView(ApiView):
    """`GET /api/pipelines/{id}/dependents`"""

    required_permissions: ClassVar = {"GET": "pipelines.view"}

    @extend_schema(
        operation_id="list_dependents",
        summary="Who depends on a pipeline",
        description="The pipelines that wait for this one, with their rules. `{pipeline_id}` is the id or the slug.",
        tags=["dependencies"],
        responses={200: DependentSerializer(many=True), **problems(404)},
    )
    def get(self, request: Request, pipeline_id: str) -> Response:
        pipeline = find_pipeline(pipeline_id)
        rules = PipelineDependency.objects.filter(upstream=pipeline, pipeline__deleted_at__isnull=True).select_related("pipeline")
        return Response([DependentSerializer(_rule(rule, rule.pipeline)).data for rule in rules])
