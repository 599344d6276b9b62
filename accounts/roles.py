"""The four roles and their rights. Roles are Django's groups of these names; `migrate` makes them and keeps them as they stand here."""

from typing import Any

from django.apps import AppConfig
from django.apps import apps as installed

_VIEWER = frozenset({"pipelines.view", "runs.view", "connections.view", "variables.view", "settings.view", "audit.view"})
_OPERATOR = _VIEWER | {"pipelines.run", "runs.cancel", "runs.resume", "connections.test"}
_EDITOR = (
    _OPERATOR
    | {f"pipelines.{right}" for right in ("create", "edit", "delete", "export")}
    | {f"{kind}.{right}" for kind in ("connections", "variables") for right in ("create", "edit", "delete")}
    | {"runs.backfill"}
)
_ADMIN = _EDITOR | {"settings.edit", "settings.manage_users", "settings.manage_roles", "audit.export"}

# From the least to the greatest; each holds the rights of those before it.
ROLES: dict[str, frozenset[str]] = {"viewer": _VIEWER, "operator": _OPERATOR, "editor": _EDITOR, "admin": _ADMIN}
# Every right that there is, in the order that people read them in.
RIGHTS: tuple[str, ...] = tuple(sorted(_ADMIN))


def keep(*, app_config: AppConfig, using: str, apps: Any = installed, **_: Any) -> None:
    """After `migrate`: the four groups exist, with at least the rights of their roles.

    What an operator gave a role beyond these stays; what they took away comes back, and other groups are left alone.
    """
    if app_config.label != "accounts":
        return
    try:
        groups, rights = apps.get_model("auth", "Group"), apps.get_model("auth", "Permission")
    except LookupError:
        return  # these tables were migrated away
    # In bulk: tests empty and fill the database often.
    groups.objects.using(using).bulk_create([groups(name=role) for role in ROLES], ignore_conflicts=True)
    labels = {name.partition(".")[0] for name in RIGHTS}
    known = rights.objects.using(using).filter(content_type__app_label__in=labels)
    keys = {f"{label}.{codename}": key for key, label, codename in known.values_list("pk", "content_type__app_label", "codename")}
    held = groups.permissions.through
    held.objects.using(using).bulk_create(
        [
            held(group_id=group, permission_id=keys[name])
            for role, group in groups.objects.using(using).filter(name__in=ROLES).values_list("name", "pk")
            for name in ROLES[role]
            if name in keys
        ],
        ignore_conflicts=True,
    )
