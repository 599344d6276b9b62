"""Who holds which rights, and so who may give which to whom."""

from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import Group, Permission, User
from django.db.models import Q

from accounts.models import ScopedUser
from accounts.roles import RIGHTS, ROLES
from brokoli_site.common.local_mode import is_local_administrator


def rights_of(user: Any) -> list[str]:
    """Those of the API's rights that this request's user holds, sorted."""
    return [right for right in RIGHTS if user.has_perm(right)]


def role_of(user: User) -> str | None:
    """The greatest of the four roles that the user has; None for none of them."""
    names = {group.name for group in user.groups.all()}
    return "admin" if user.is_superuser else next((role for role in reversed(ROLES) if role in names), None)


def is_unbounded(user: Any) -> bool:
    """Whether the user may give anything to anybody: the person at this machine, and superusers who came with no narrowed token."""
    return is_local_administrator(user) or (user.is_superuser and user.is_active and not isinstance(user, ScopedUser))


def may_give(giver: Any, groups: Iterable[Group]) -> bool:
    """Whether the giver holds every right of these groups."""
    return is_unbounded(giver) or names(Permission.objects.filter(group__in=groups)) <= giver.get_all_permissions()


def may_change(changer: Any, user: User) -> bool:
    """Whether the user holds nothing that the changer does not: who sets another's password can act as them."""
    if is_unbounded(changer):
        return True
    # Not `get_all_permissions`: it is empty for a user who was deactivated, and could be let in again.
    held = Permission.objects.filter(Q(user=user) | Q(group__user=user))
    return not user.is_superuser and names(held) <= changer.get_all_permissions()


def names(permissions: Any) -> set[str]:
    """`runs.view` and so on, of rows of Django's permissions."""
    return {f"{label}.{codename}" for label, codename in permissions.values_list("content_type__app_label", "codename")}
