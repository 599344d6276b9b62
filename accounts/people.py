"""Users made, changed and removed: by the API and by the admin."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.contrib.auth import authenticate
from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.db.models import Q
from django.http import HttpRequest

from accounts import endings, held, passwords
from accounts.models import ApiToken
from brokoli_site.common import audit
from brokoli_site.common.errors import BrokoliError, Conflict
from brokoli_site.common.problems import BodyError

MOST_ROLES = 50


class BeyondYourRights(BrokoliError):
    """Nobody gives rights that they do not have themselves, nor changes a user who has more."""

    status, code = 403, "beyond_your_rights"


class LastAdministrator(Conflict):
    """This is the last administrator who may log in: make another one first."""

    code = "last_administrator"


class OwnPassword(BrokoliError):
    """Your own password is changed with the present one only: `POST /api/auth/password`."""

    status, code = 403, "own_password"


class UsersExist(Conflict):
    """There are users already: log in as one of them."""

    code = "users_exist"


def administrators() -> Any:
    """Users who may log in and manage everything: active, and with a password.

    A token of theirs is no login: it ends some day, and makes no other.
    """
    without = Q(password="") | Q(password__startswith=UNUSABLE_PASSWORD_PREFIX)
    return User.objects.filter(Q(is_superuser=True) | Q(groups__name="admin"), is_active=True).exclude(without)


def is_last_administrator(user: User) -> bool:
    """Whether there would be none without this one. Nobody changes that meanwhile, inside of `administrators_kept`."""
    found = administrators()
    return found.filter(pk=user.pk).exists() and not found.exclude(pk=user.pk).exists()


@contextmanager
def administrators_kept() -> Iterator[None]:
    """A transaction for changes after which somebody must still be administrator. Errors: `LastAdministrator`, and nothing is changed.

    Two administrators who demote each other at the same moment take turns here.
    """
    with transaction.atomic():
        list(Group.objects.select_for_update(no_key=True).filter(name="admin"))
        had_any = administrators().exists()
        yield
        if had_any and not administrators().exists():
            raise LastAdministrator


def set_up(username: str, password: str, email: str = "") -> User:
    """The first user, who is administrator. Errors: `UsersExist`, also for all but one of those who try at once; `BodyError`."""
    user = User(username=username, email=email, is_staff=True, is_superuser=True)
    _validate(user)
    passwords.check(password, user)
    user.set_password(password)  # slow on purpose, so before others have to wait
    with transaction.atomic():
        keep_others_out()
        if User.objects.exists():
            raise UsersExist
        user.save()
        user.groups.add(Group.objects.get(name="admin"))
        audit.record("auth.setup", "user", user.pk, user.username, after=shown(user), by=user)
    return user


def keep_others_out() -> None:
    """Until this transaction ends, nobody makes a user: not `createsuperuser` either, which asks for no leave of ours."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE auth_user IN SHARE ROW EXCLUSIVE MODE")
    # SQLite's transactions hold the only write lock from their beginning.


def create(by: Any, *, username: str, password: str | None, email: str, roles: Sequence[str]) -> User:
    """A new user. Errors: `BeyondYourRights`, `BodyError`, `Conflict` for a name that is taken."""
    groups = _groups(by, roles)
    user = User(username=username, email=email, is_staff="admin" in roles)
    _validate(user)
    _set_password(user, password)
    with transaction.atomic():
        if not User.objects.exists():
            raise Conflict("The first user is made by `POST /api/auth/setup`, or by `manage.py createsuperuser`.")
        try:
            with transaction.atomic():
                user.save()
        except IntegrityError as error:  # somebody was faster
            raise _taken(username) from error
        user.groups.set(groups)
        audit.record("user.created", "user", user.pk, user.username, after=shown(user))
    return user


def change(by: Any, user: User, changes: dict[str, Any]) -> User:
    """`changes`: any of `email, active, roles, password`. Errors: `BeyondYourRights`, `BodyError`, `LastAdministrator`, `OwnPassword`."""
    if "password" in changes and by.pk == user.pk:
        raise OwnPassword
    groups = _groups(by, changes["roles"]) if "roles" in changes else None
    if "password" in changes:
        _set_password(user, changes["password"])  # slow on purpose, so before others have to wait
    secret = user.password
    with administrators_kept():
        user = User.objects.select_for_update(no_key=True).get(pk=user.pk)
        if not held.may_change(by, user):
            raise BeyondYourRights
        before = shown(user)
        user.email = changes.get("email", user.email)
        user.is_active = changes.get("active", user.is_active)
        if groups is not None:
            user.is_staff = user.is_superuser or "admin" in changes["roles"]
            user.groups.set(groups)
        _validate(user)
        if "password" in changes:
            user.password = secret
        user.save()
        if "password" in changes:
            endings.end_tokens(user)
        after = shown(user) | ({"password": audit.CHANGED} if "password" in changes else {})
        audit.record("user.updated", "user", user.pk, user.username, before=before, after=after)
    return user


def remove(by: Any, user: User) -> None:
    """Errors: `BeyondYourRights`, `LastAdministrator`."""
    with administrators_kept():
        if not held.may_change(by, user):
            raise BeyondYourRights
        key, before = user.pk, shown(user)
        user.delete()
        audit.record("user.deleted", "user", key, before["username"], before=before)


def change_own_password(request: HttpRequest, user: User, current: str, new: str) -> None:
    """Ends every session and token of the user. Errors: `BodyError` at the current password or the new one."""
    # As at a login, so that whoever found an open session cannot guess on.
    if authenticate(request=request, username=user.get_username(), password=current) is None:
        raise BodyError({"/current_password": ["This is not your current password."]})
    passwords.check(new, user, "/new_password")
    user.set_password(new)
    with transaction.atomic():
        user.save(update_fields=["password"])
        audit.record("user.password_changed", "user", user.pk, user.get_username())


def end_token(token: ApiToken, action: str = "token.revoked") -> None:
    """It lets nobody in any more."""
    with transaction.atomic():
        key = token.pk
        token.delete()
        audit.record(action, "token", key, token.name, before={"user": token.user.get_username(), "hint": token.hint})


def _groups(by: Any, roles: Sequence[str]) -> list[Group]:
    """The groups of these names, which the giver may give."""
    found = {group.name: group for group in Group.objects.filter(name__in=roles)}
    wrong = {
        f"/roles/{place}": [f"There is no role of this name. Known: {', '.join(_known())}."] for place, role in enumerate(roles) if role not in found
    }
    if wrong:
        raise BodyError(wrong)
    for role, group in found.items():
        if not held.may_give(by, [group]):
            raise BeyondYourRights(f"The role {role} has rights that you do not have, so you cannot give it.")
    return list(found.values())


def _known() -> list[str]:
    return list(Group.objects.order_by("name").values_list("name", flat=True)[:MOST_ROLES])


def _set_password(user: User, password: str | None) -> None:
    if password is None:
        user.set_unusable_password()
    else:
        passwords.check(password, user)
        user.set_password(password)


def _validate(user: User) -> None:
    """Errors: `BodyError` as the model says it, `Conflict` for a name that is taken."""
    try:
        user.clean_fields(exclude=["password"])
    except ValidationError as error:
        raise BodyError({f"/{field}": messages for field, messages in error.message_dict.items()}) from error
    if User.objects.filter(username=user.username).exclude(pk=user.pk).exists():
        raise _taken(user.username)


def _taken(username: str) -> Conflict:
    return Conflict(f"There is a user {username!r} already.")


def shown(user: User) -> dict[str, Any]:
    """The user as the audit log tells of them: the stored row, and its roles."""
    roles = sorted(group.name for group in user.groups.all()) if user.pk else []
    return {"username": user.username, "email": user.email, "active": user.is_active, "superuser": user.is_superuser, "roles": roles}
