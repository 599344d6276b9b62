"""Django's admin. Pipelines and their versions are there to look at, never to change: changes go through the API, which checks them.

Connections and variables are made and changed there too, by who has the rights that the API asks for.
"""

import json
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.http import HttpRequest

from pipelines import connections, used_by
from pipelines.admin_forms import ConnectionForm, VariableForm
from pipelines.models import Connection, Pipeline, PipelineVersion, Variable, WebhookToken

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin


class ReadOnlyAdmin(ModelAdmin):
    """Shows rows; adds, changes and deletes none. Rights are named as the API names them."""

    actions: Any = None
    show_full_result_count = False  # it would count the whole table again

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("pipelines.view")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("pipelines.view")

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
        "webhook_token",
        "definition",
    )

    @admin.display(description="Webhook")
    def webhook_token(self, pipeline: Pipeline) -> str:
        row = WebhookToken.objects.filter(pipeline=pipeline).only("created_at").first()
        return f"its token was set on {row.created_at:%Y-%m-%d %H:%M} UTC" if row else "none"

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


class _StoredAdmin(ModelAdmin):
    """Connections or variables, changed through the same use cases as over the API. Secrets are typed in, and never shown."""

    area = ""  # the rights are named as the API names them: `connections.view`
    list_per_page = 50
    show_full_result_count = False

    # Django's own history of the admin names a user, and local mode's administrator is no row.

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        return super().log_addition(request, obj, message) if request.user.pk else None

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        return super().log_change(request, obj, message) if request.user.pk else None

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        return super().log_deletions(request, queryset) if request.user.pk else None

    def _may(self, request: HttpRequest, right: str) -> bool:
        return request.user.has_perm(f"{self.area}.{right}")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self._may(request, "view")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, "view")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self._may(request, "create")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, "edit")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """One that pipelines use is not removed here; the API can be told to."""
        return self._may(request, "delete") and (obj is None or not used_by.users_of(self.kind, str(obj)))

    @property
    def kind(self) -> used_by.Kind:
        return "connection" if self.area == "connections" else "variable"

    def get_actions(self, request: HttpRequest) -> Any:
        return {name: action for name, action in super().get_actions(request).items() if name != "delete_selected"}

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        return type(form)(form.__name__, (form,), {"user": request.user})

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("used", "created_at", "updated_at") if obj is not None else ()

    @admin.display(description="Used by")
    def used(self, row: Any) -> str:
        return ", ".join(user["name"] for user in used_by.users_of(self.kind, str(row))) or "no pipeline"


@admin.register(Connection)
class ConnectionAdmin(_StoredAdmin):
    area = "connections"
    form = ConnectionForm
    list_display = ("conn_id", "type", "host", "port", "schema", "login", "updated_at")
    list_filter = ("type",)
    search_fields = ("conn_id", "description", "host")
    actions = ("test",)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        given = ["conn_id", "type", "description", "host", "port", "schema", "login", "password", "options"]
        return given if obj is None else [*given[1:], "clear", "secrets_set", "used", "created_at", "updated_at"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return (*super().get_readonly_fields(request, obj), *(("secrets_set",) if obj is not None else ()))

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        saved = form.saved()
        obj.pk = saved.pk

    @admin.display(description="Secrets that are set")
    def secrets_set(self, row: Connection) -> str:
        shown = connections.represented(row)
        password = [shown["password_ref"] or "password"] if shown["has_password"] else []
        return shown["problem"] or ", ".join([*password, *shown["secret_extra"]]) or "none"

    @admin.action(description="Test the first of the selected connections", permissions=["test"])
    def test(self, request: HttpRequest, queryset: Any) -> None:
        row = queryset.order_by("conn_id").first()
        found = connections.tested(row)
        self.message_user(request, f"{row}: {found['message']}", messages.SUCCESS if found["ok"] else messages.ERROR)

    def has_test_permission(self, request: HttpRequest) -> bool:
        return self._may(request, "test")


@admin.register(Variable)
class VariableAdmin(_StoredAdmin):
    area = "variables"
    form = VariableForm
    list_display = ("key", "type", "description", "updated_at")
    list_filter = ("type",)
    search_fields = ("key", "description")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        given = ["key", "type", "new_value", "new_secret", "description"]
        return given if obj is None else [*given[1:], "used", "created_at", "updated_at"]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        saved = form.saved()
        obj.pk = saved.pk
