"""Users, roles, tokens and locked-out guessers in Django's admin: the same rights and rules as in the API.

Django's own pages let whoever may change users make themselves superuser. Here nobody gives what they do not have, nor changes who has more.
"""

from collections.abc import Sequence
from typing import Any

from axes.models import AccessAttempt
from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.forms import AdminPasswordChangeForm, AdminUserCreationForm
from django.contrib.auth.models import Group, Permission, User
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect

from accounts import endings, held, people
from accounts.models import ApiToken
from accounts.roles import ROLES
from brokoli_site.common import audit

_USERS, _ROLES = "settings.manage_users", "settings.manage_roles"


class _HistoryOfUsers(admin.ModelAdmin):  # type: ignore[type-arg]  # the real class takes no parameters
    """Django's history of changes names the user who made each; the local administrator is none, so theirs are not in it."""

    def log_addition(self, request: HttpRequest, obj: Model, message: Any) -> LogEntry | None:  # type: ignore[override]
        return super().log_addition(request, obj, message) if request.user.pk else None

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> LogEntry | None:  # type: ignore[override]
        return super().log_change(request, obj, message) if request.user.pk else None

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Any]) -> Sequence[LogEntry]:  # type: ignore[override]
        return super().log_deletions(request, queryset) if request.user.pk else []


class _ByRight(_HistoryOfUsers):
    """All of a page by one right, and of a row only what `covers` allows."""

    right = ""

    def covers(self, request: HttpRequest, obj: Any) -> bool:
        return True

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(self.right)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm(self.right)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(self.right)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm(self.right) and (obj is None or self.covers(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm(self.right) and (obj is None or self.covers(request, obj))

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._kept(request, lambda: super(_ByRight, self).changeform_view(request, *args, **kwargs))

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._kept(request, lambda: super(_ByRight, self).delete_view(request, *args, **kwargs))

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._kept(request, lambda: super(_ByRight, self).changelist_view(request, *args, **kwargs))

    def _kept(self, request: HttpRequest, answer: Any) -> HttpResponse:
        """Nothing is changed after which nobody would be administrator."""
        if request.method != "POST":
            found: HttpResponse = answer()
            return found
        try:
            with people.administrators_kept():
                response: HttpResponse = answer()
        except people.LastAdministrator as error:
            list(messages.get_messages(request))  # what was said of a change that was not made is not said
            self.message_user(request, error.message, messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())
        return response


admin.site.unregister(User)
admin.site.unregister(Group)


class _PasswordForm(AdminPasswordChangeForm):  # type: ignore[type-arg]  # the real class takes no parameters
    """Django tells validators of a password that is set, and nobody of one that is taken away."""

    def clean(self) -> dict[str, Any] | None:
        found = super().clean()
        # Here already: the page of a password gives the session a new key, which would be rolled back with the rest.
        if not self.cleaned_data["set_usable_password"] and people.is_last_administrator(self.user):
            self.add_error("usable_password", people.LastAdministrator().message)
        return found

    def save(self, commit: bool = True) -> Any:
        user = super().save(commit)
        endings.end_tokens(user)
        audit.record("user.updated", "user", user.pk, user.get_username(), after={"password": audit.CHANGED})
        return user


class _NewUserForm(AdminUserCreationForm):  # type: ignore[type-arg]
    """The first user ends local mode, so that nobody could come in any more if that one could not."""

    def clean(self) -> dict[str, Any] | None:
        found = super().clean()
        if not self.cleaned_data.get("set_usable_password", True) and not User.objects.exists():
            self.add_error("usable_password", "The first user is administrator, and needs a password to log in.")
        return found


@admin.register(User)
class BrokoliUserAdmin(_ByRight, UserAdmin):  # type: ignore[type-arg]
    """Users; the first one ends local mode."""

    right = _USERS
    add_form = _NewUserForm
    change_password_form = _PasswordForm
    list_display = ("username", "email", "is_active", "is_superuser", "last_login")

    def covers(self, request: HttpRequest, obj: Any) -> bool:
        return held.may_change(request.user, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fixed = [*super().get_readonly_fields(request, obj), "last_login", "date_joined"]
        # Rights beside the roles are for whoever has all of them; so is the mark that stands for all.
        return fixed if held.is_unbounded(request.user) else [*fixed, "is_superuser", "user_permissions"]

    def formfield_for_manytomany(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        field = super().formfield_for_manytomany(db_field, request, **kwargs)
        if field is not None and db_field.name == "groups":
            given = [group.pk for group in Group.objects.all() if held.may_give(request.user, [group])]
            field.queryset = Group.objects.filter(pk__in=given)
        return field

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            people.keep_others_out()
            if not User.objects.exists():
                # With a first user who may do nothing, nobody could do anything any more.
                obj.is_superuser = obj.is_staff = True
                self.message_user(request, "The first user is administrator; local mode has ended.", messages.INFO)
        form.told_before = _told_of_user(User.objects.get(pk=obj.pk)) if change else None
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        user, action = form.instance, "user.updated" if change else "user.created"
        audit.record(action, "user", user.pk, user.get_username(), before=form.told_before, after=_told_of_user(user))

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        audit.record("user.deleted", "user", obj.pk, obj.get_username(), before=_told_of_user(obj))
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for user in queryset:
            self.delete_model(request, user)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002 - Django's name
        user = self.get_object(request, unquote(id))
        if user is not None and user.pk == request.user.pk:
            return redirect("admin:password_change")  # which asks for the present one
        return self._kept(request, lambda: super(BrokoliUserAdmin, self).user_change_password(request, id, form_url))


@admin.register(Group)
class BrokoliGroupAdmin(_ByRight, GroupAdmin):
    """Roles. The four that Brokoli keeps stay as they are; others may be made of the rights that one has."""

    right = _ROLES

    def covers(self, request: HttpRequest, obj: Any) -> bool:
        return obj.name not in ROLES and held.may_give(request.user, [obj])

    def formfield_for_manytomany(self, db_field: Any, request: Any = None, **kwargs: Any) -> Any:
        field = super().formfield_for_manytomany(db_field, request, **kwargs)
        if field is not None and db_field.name == "permissions" and not held.is_unbounded(request.user):
            own = [
                key
                for key, label, codename in Permission.objects.values_list("pk", "content_type__app_label", "codename")
                if request.user.has_perm(f"{label}.{codename}")
            ]
            field.queryset = Permission.objects.filter(pk__in=own).select_related("content_type")
        return field

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        form.told_before = _told_of_role(Group.objects.get(pk=obj.pk)) if change else None
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        role, action = form.instance, "role.updated" if change else "role.created"
        audit.record(action, "role", role.pk, role.name, before=form.told_before, after=_told_of_role(role))

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        audit.record("role.deleted", "role", obj.pk, obj.name, before=_told_of_role(obj))
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for role in queryset:
            self.delete_model(request, role)


@admin.register(ApiToken)
class ApiTokenAdmin(_ByRight):
    """Tokens of all users, to be ended; never the tokens themselves."""

    right = _USERS
    list_display = ("name", "user", "kind", "hint", "created_at", "expires_at", "last_used_at")
    list_filter = ("kind",)
    search_fields = ("name", "user__username", "hint")
    fields = ("name", "user", "kind", "hint", "scopes", "created_at", "expires_at", "last_used_at")

    def covers(self, request: HttpRequest, obj: Any) -> bool:
        return held.may_change(request.user, obj.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        people.end_token(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for token in queryset:
            people.end_token(token)


@admin.register(AccessAttempt)
class LockedOutAdmin(_ByRight):
    """Wrong passwords of the last quarter of an hour, by name and address; to delete a row is to forgive."""

    right = _USERS
    list_display = ("username", "ip_address", "failures_since_start", "attempt_time")
    search_fields = ("username", "ip_address")
    fields = list_display

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        before = {"address": obj.ip_address, "failures": obj.failures_since_start}
        audit.record("auth.unlocked", "user", "", obj.username, before=before)
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for attempt in queryset:
            self.delete_model(request, attempt)


def _told_of_user(user: User) -> dict[str, Any]:
    """All that the page of a user shows; the password has a page of its own."""
    beside = {
        "staff": user.is_staff,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "permissions": sorted(held.names(user.user_permissions)),
    }
    return people.shown(user) | beside


def _told_of_role(role: Group) -> dict[str, Any]:
    return {"name": role.name, "permissions": sorted(held.names(role.permissions))}
