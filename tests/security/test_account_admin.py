"""Users, roles and tokens in Django's admin: nobody makes themselves, or anybody, more than they are."""

from datetime import timedelta
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import Group, Permission, User
from django.test import Client

from accounts import lockout, tokens
from accounts.models import ApiToken
from accounts.roles import ROLES
from system.models import AuditEntry
from tests.people import PASSWORD, person

pytestmark = pytest.mark.django_db
WITHOUT_PASSWORD = {"password1": "", "password2": "", "usable_password": "false", "unset-password": "1"}


def staff(*roles: str, **marks: Any) -> tuple[User, Client]:
    user = person(roles[0]) if roles else User.objects.create_user("staff", **marks)
    user.is_staff = True
    user.save()
    client = Client(headers={"host": "localhost"})
    client.force_login(user)
    return user, client


def form_of(user: User, **changes: Any) -> dict[str, Any]:
    groups = [group.pk for group in user.groups.all()]
    return {
        "username": user.username,
        "email": "",
        "first_name": "",
        "last_name": "",
        "is_active": "on",
        "is_staff": "on",
        "groups": groups,
        **changes,
    }


def permission(name: str) -> Permission:
    label, codename = name.split(".")
    return Permission.objects.get(content_type__app_label=label, codename=codename)


def test_an_administrator_makes_nobody_superuser_not_even_themselves() -> None:
    admin, client = staff("admin")
    extra = permission("auth.change_user").pk
    changed = client.post(f"/admin/auth/user/{admin.pk}/change/", form_of(admin, is_superuser="on", user_permissions=[extra], email="a@example.org"))
    assert changed.status_code == 302
    admin.refresh_from_db()
    assert (admin.email, admin.is_superuser, admin.user_permissions.count()) == ("a@example.org", False, 0)


def test_a_manager_of_users_gives_no_role_that_has_more() -> None:
    manager, client = staff(is_staff=True)
    manager.user_permissions.add(permission("settings.manage_users"), *(permission(right) for right in ROLES["viewer"]))
    other = User.objects.create_user("other")
    refused = client.post(f"/admin/auth/user/{other.pk}/change/", form_of(other, groups=[Group.objects.get(name="admin").pk]))
    assert (refused.status_code, other.groups.count()) == (200, 0)
    given = client.post(f"/admin/auth/user/{other.pk}/change/", form_of(other, groups=[Group.objects.get(name="viewer").pk]))
    assert (given.status_code, other.groups.count()) == (302, 1)


@pytest.mark.parametrize("greater", ["admin", "superuser"])
def test_nobody_changes_who_has_more(greater: str) -> None:
    manager, client = staff(is_staff=True)
    manager.user_permissions.add(permission("settings.manage_users"))
    target = person("admin") if greater == "admin" else User.objects.create_superuser("root", password=PASSWORD)
    for path, body in (
        (f"/admin/auth/user/{target.pk}/change/", form_of(target, is_active="")),
        (f"/admin/auth/user/{target.pk}/password/", {"password1": PASSWORD, "password2": PASSWORD, "usable_password": "true"}),
        (f"/admin/auth/user/{target.pk}/delete/", {"post": "yes"}),
    ):
        assert client.post(path, body).status_code == 403, path
    client.post("/admin/auth/user/", {"action": "delete_selected", "_selected_action": [target.pk], "post": "yes"})
    token, _ = tokens.issue(target, ApiToken.Kind.NAMED, "t", lasts=timedelta(days=1))
    assert client.post(f"/admin/accounts/apitoken/{token.pk}/delete/", {"post": "yes"}).status_code == 403
    assert User.objects.filter(pk=target.pk, is_active=True).exists() and ApiToken.objects.exists()


@pytest.mark.parametrize("role", ["viewer", "operator", "editor"])
def test_others_see_no_users_roles_or_tokens(role: str) -> None:
    _, client = staff(role)
    for page in ("auth/user", "auth/group", "accounts/apitoken", "axes/accessattempt"):
        assert client.get(f"/admin/{page}/").status_code == 403


def test_the_last_administrator_stays_here_too() -> None:
    admin, client = staff("admin")
    User.objects.create_superuser("without")  # who cannot log in
    for path, body in (
        (f"/admin/auth/user/{admin.pk}/change/", form_of(admin, is_active="")),
        (f"/admin/auth/user/{admin.pk}/change/", form_of(admin, groups=[])),
        (f"/admin/auth/user/{admin.pk}/delete/", {"post": "yes"}),
        ("/admin/auth/user/", {"action": "delete_selected", "_selected_action": [admin.pk], "post": "yes"}),
    ):
        answer = client.post(path, body, follow=True)
        page = answer.content.decode()
        assert "last administrator" in page and "successfully" not in page, path
        assert User.objects.filter(pk=admin.pk, is_active=True, groups__name="admin").exists(), path
    person("admin")
    client.post(f"/admin/auth/user/{admin.pk}/delete/", {"post": "yes"})
    assert not User.objects.filter(pk=admin.pk).exists()


def test_the_password_of_the_last_administrator_is_not_taken_away() -> None:
    only = person("admin")
    manager, client = staff(is_staff=True)
    manager.user_permissions.add(*(permission(right) for right in ROLES["admin"]))
    page = client.post(f"/admin/auth/user/{only.pk}/password/", WITHOUT_PASSWORD, follow=True).content.decode()
    assert "last administrator" in page and "was disabled" not in page
    assert User.objects.get(pk=only.pk).has_usable_password()
    person("admin")
    assert client.post(f"/admin/auth/user/{only.pk}/password/", WITHOUT_PASSWORD).status_code == 302
    assert not User.objects.get(pk=only.pk).has_usable_password()


def test_ones_own_password_is_changed_with_the_present_one_here_too() -> None:
    admin, client = staff("admin")
    new = "another long password"
    for key in (str(admin.pk), f"0{admin.pk}"):  # spellings of the same row
        for body in ({"password1": new, "password2": new, "usable_password": "true", "set-password": "1"}, WITHOUT_PASSWORD):
            answer = client.post(f"/admin/auth/user/{key}/password/", body)
            assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/password_change/"), key
    tokens.issue(admin, ApiToken.Kind.NAMED, "t", lasts=timedelta(days=1))
    form = {"new_password1": new, "new_password2": new}
    assert "was entered incorrectly" in client.post("/admin/password_change/", {**form, "old_password": "wrong"}).content.decode()
    assert User.objects.get(pk=admin.pk).check_password(PASSWORD) and ApiToken.objects.exists()
    assert client.post("/admin/password_change/", {**form, "old_password": PASSWORD}).status_code == 302
    assert User.objects.get(pk=admin.pk).check_password(new) and not ApiToken.objects.exists()
    entry = AuditEntry.objects.get(action="user.password_changed")
    assert (entry.actor, entry.object_id, entry.diff["changes"]) == (admin.username, str(admin.pk), [])
    for _ in range(lockout.OF_NAME_AND_ADDRESS):
        client.post("/admin/password_change/", {**form, "old_password": "wrong"})
    assert client.post("/admin/password_change/", {**form, "old_password": new}).status_code == 429


def test_roles_are_made_of_rights_that_one_has_and_the_four_stay() -> None:
    _, client = staff("admin")
    own, foreign = permission("runs.view"), permission("auth.change_user")
    assert client.post("/admin/auth/group/add/", {"name": "custom", "permissions": [own.pk, foreign.pk]}).status_code == 200
    assert client.post("/admin/auth/group/add/", {"name": "custom", "permissions": [own.pk]}).status_code == 302
    custom = Group.objects.get(name="custom")
    custom.permissions.add(foreign)
    for group in (custom, Group.objects.get(name="viewer")):
        assert client.post(f"/admin/auth/group/{group.pk}/change/", {"name": "x", "permissions": [own.pk]}).status_code == 403
        assert client.post(f"/admin/auth/group/{group.pk}/delete/", {"post": "yes"}).status_code == 403
    client.post(
        "/admin/auth/group/", {"action": "delete_selected", "_selected_action": list(Group.objects.values_list("pk", flat=True)), "post": "yes"}
    )
    assert Group.objects.count() == len(ROLES) + 1


def test_a_token_is_listed_and_ended_never_shown() -> None:
    admin, client = staff("admin")
    token, secret = tokens.issue(admin, ApiToken.Kind.NAMED, "nightly", lasts=timedelta(days=1))
    for path in ("/admin/accounts/apitoken/", f"/admin/accounts/apitoken/{token.pk}/change/"):
        page = client.get(path).content.decode()
        assert "nightly" in page and secret not in page and token.digest not in page
    assert client.post(f"/admin/accounts/apitoken/{token.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not ApiToken.objects.exists()


def test_a_user_with_tokens_can_be_removed() -> None:
    _, client = staff("admin")
    other = person("viewer")
    tokens.issue(other, ApiToken.Kind.NAMED, "t", lasts=timedelta(days=1))
    assert client.post(f"/admin/auth/user/{other.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not User.objects.filter(pk=other.pk).exists()


def test_the_first_user_made_here_is_administrator() -> None:
    local = Client(headers={"host": "localhost"})
    body = {"username": "first", "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD}
    refused = local.post("/admin/auth/user/add/", {**body, "usable_password": "false"})
    assert "needs a password" in refused.content.decode() and not User.objects.exists()
    assert local.post("/admin/auth/user/add/", body).status_code == 302
    assert User.objects.get().is_superuser
    assert local.get("/api/auth/me").status_code == 401


def test_a_password_set_here_ends_tokens_and_is_in_the_audit_log() -> None:
    _, client = staff("admin")
    other = person("viewer")
    tokens.issue(other, ApiToken.Kind.NAMED, "t", lasts=timedelta(days=1))
    body = {"password1": PASSWORD, "password2": PASSWORD, "usable_password": "true", "set-password": "1"}
    assert client.post(f"/admin/auth/user/{other.pk}/password/", body).status_code == 302
    assert not ApiToken.objects.exists()
    assert AuditEntry.objects.get(action="user.updated").object_id == str(other.pk)


def test_what_was_open_when_a_user_was_deactivated_does_not_come_back_with_them() -> None:
    _, client = staff("admin")
    other, others = staff("viewer")
    _, kept = staff("editor")
    _, secret = tokens.issue(other, ApiToken.Kind.NAMED, "t", lasts=timedelta(days=1))
    address = f"/admin/auth/user/{other.pk}/change/"
    for active in ("", "on"):
        assert client.post(address, form_of(other, is_active=active)).status_code == 302
    assert User.objects.get(pk=other.pk).is_active
    assert tokens.admit(secret) is None
    assert others.get("/api/auth/me").status_code == 401
    assert kept.get("/api/auth/me").status_code == 200


def test_a_password_taken_away_here_ends_tokens() -> None:
    _, client = staff("admin")
    other = person("viewer")
    _, secret = tokens.issue(other, ApiToken.Kind.NAMED, "t", lasts=timedelta(days=1))
    assert client.post(f"/admin/auth/user/{other.pk}/password/", WITHOUT_PASSWORD).status_code == 302
    assert not User.objects.get(pk=other.pk).has_usable_password()
    assert tokens.admit(secret) is None


def test_to_forgive_a_guesser_is_told_in_the_audit_log() -> None:
    root, client = staff(is_superuser=True, is_staff=True)
    rows = [AccessAttempt.objects.create(username="ada", ip_address=f"192.0.2.{n}", failures_since_start=5) for n in (1, 2, 3)]
    assert client.post(f"/admin/axes/accessattempt/{rows[0].pk}/delete/", {"post": "yes"}).status_code == 302
    chosen = {"action": "delete_selected", "_selected_action": [rows[1].pk, rows[2].pk], "post": "yes"}
    assert client.post("/admin/axes/accessattempt/", chosen).status_code == 302
    told = AuditEntry.objects.filter(action="auth.unlocked", name="ada", actor=root.username)
    assert told.count() == 3 and not AccessAttempt.objects.exists()


def test_a_header_that_nobody_reads_does_not_say_how_somebody_came() -> None:
    _, client = staff(is_superuser=True, is_staff=True)
    assert client.post("/admin/auth/group/add/", {"name": "made"}, headers={"authorization": "Basic eDp5"}).status_code == 302
    assert AuditEntry.objects.get(action="role.created").via == "session"


def test_the_audit_log_says_what_was_changed_here_from_what() -> None:
    _, client = staff(is_superuser=True, is_staff=True)
    other, right = person("viewer"), permission("runs.view")
    name = other.username
    address = f"/admin/auth/user/{other.pk}/change/"
    editor = Group.objects.get(name="editor").pk
    changed = form_of(other, username="renamed", email="o@example.org", is_active="", groups=[editor], user_permissions=[right.pk], is_superuser="on")
    assert client.post(address, changed).status_code == 302
    assert client.post(f"/admin/auth/user/{other.pk}/delete/", {"post": "yes"}).status_code == 302
    client.post("/admin/auth/group/add/", {"name": "made", "permissions": [right.pk]})
    role = Group.objects.get(name="made")
    assert client.post(f"/admin/auth/group/{role.pk}/change/", {"name": "kept", "permissions": []}).status_code == 302
    assert client.post(f"/admin/auth/group/{role.pk}/delete/", {"post": "yes"}).status_code == 302
    told = {entry.action: entry.diff["changes"] for entry in AuditEntry.objects.all()}
    assert {change["field"]: (change["before"], change["after"]) for change in told["user.updated"]} == {
        "username": (name, "renamed"),
        "email": ("", "o@example.org"),
        "active": (True, False),
        "superuser": (False, True),
        "staff": (False, True),
        "roles": (["viewer"], ["editor"]),
        "permissions": ([], ["runs.view"]),
    }
    assert {"field": "roles", "before": ["editor"]} in told["user.deleted"]
    assert told["role.created"] == [{"field": "name", "after": "made"}, {"field": "permissions", "after": ["runs.view"]}]
    assert told["role.updated"] == [
        {"field": "name", "before": "made", "after": "kept"},
        {"field": "permissions", "before": ["runs.view"], "after": []},
    ]
    assert {"field": "name", "before": "kept"} in told["role.deleted"]
