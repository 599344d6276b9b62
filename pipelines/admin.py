"""Pipelines and their versions in Django's admin: to look at, never to change. Changes go through the API, which checks them."""

import json
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest

from pipelines.models import Pipeline, PipelineVersion

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin


class ReadOnlyAdmin(ModelAdmin):
    """Shows rows; adds, changes and deletes none."""

    actions: Any = None
    show_full_result_count = False  # it would count the whole table again

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Pipeline)
class PipelineAdmin(ReadOnlyAdmin):
    list_display = ("name", "pipeline_id", "enabled", "schedule", "version", "node_count", "updated_at", "deleted_at")
    list_filter = ("enabled", ("deleted_at", admin.EmptyFieldListFilter))
    search_fields = ("name", "pipeline_id", "description")
    ordering = ("-id",)
    list_per_page = 50
    fields = (
        "id",
        "pipeline_id",
        "name",
        "description",
        "enabled",
        "schedule",
        "schedule_timezone",
        "tags",
        "version",
        "node_count",
        "created_at",
        "updated_at",
        "deleted_at",
        "definition",
    )

    @admin.display(description="Definition")
    def definition(self, pipeline: Pipeline) -> str:
        return pretty(pipeline.versions.get(number=pipeline.version).document)


@admin.register(PipelineVersion)
class PipelineVersionAdmin(ReadOnlyAdmin):
    list_display = ("pipeline", "number", "comment", "created_by", "created_at")
    list_select_related = ("pipeline", "created_by")
    search_fields = ("pipeline__name", "pipeline__pipeline_id")
    ordering = ("-id",)
    list_per_page = 50
    fields = ("pipeline", "number", "comment", "created_by", "created_at", "definition")

    def get_queryset(self, request: HttpRequest) -> Any:
        # Fifty documents of up to megabytes are not needed to list them.
        return super().get_queryset(request).defer("document")

    @admin.display(description="Definition")
    def definition(self, version: PipelineVersion) -> str:
        return pretty(version.document)


def pretty(document: Any) -> str:
    """A document as indented text; the admin escapes it."""
    return json.dumps(document, indent=2, ensure_ascii=False)
