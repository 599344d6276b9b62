"""The four roles: made by `migrate`, kept by each further one."""

from itertools import pairwise

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command

from accounts.roles import RIGHTS, ROLES
from tests.people import person, signed_in_as

pytestmark = pytest.mark.django_db


def rights_of(group: str) -> set[str]:
    rows = Permission.objects.filter(group__name=group).values_list("content_type__app_label", "codename")
    return {f"{label}.{codename}" for label, codename in rows}


def test_each_role_has_its_rights() -> None:
    assert {role: rights_of(role) for role in ROLES} == {role: set(names) for role, names in ROLES.items()}


def test_each_role_holds_the_rights_of_those_before_it() -> None:
    roles = list(ROLES.values())
    assert all(less < more for less, more in pairwise(roles))
    assert set(RIGHTS) == ROLES["admin"]


def test_every_right_of_ours_is_the_admins() -> None:
    """Rights that Django makes for every model are named `add_…`, `change_…`; those named as the API names them are all in the table."""
    labels = {name.partition(".")[0] for name in RIGHTS}
    rows = Permission.objects.filter(content_type__app_label__in=labels).values_list("content_type__app_label", "codename")
    ours = {f"{label}.{codename}" for label, codename in rows if not codename.startswith(("add_", "change_", "delete_", "view_"))}
    assert ours == set(RIGHTS)


def test_what_was_taken_from_a_role_comes_back_and_what_was_added_stays() -> None:
    viewer, custom = Group.objects.get(name="viewer"), Group.objects.create(name="custom")
    viewer.permissions.remove(Permission.objects.get(content_type__app_label="runs", codename="view"))
    viewer.permissions.add(Permission.objects.get(content_type__app_label="pipelines", codename="run"))
    custom.permissions.add(Permission.objects.get(content_type__app_label="runs", codename="view"))
    Group.objects.get(name="operator").delete()
    for _ in range(2):
        call_command("migrate", verbosity=0)
    assert rights_of("viewer") == ROLES["viewer"] | {"pipelines.run"}
    assert rights_of("operator") == ROLES["operator"]
    assert rights_of("custom") == {"runs.view"}
    assert Group.objects.count() == len(ROLES) + 1


@pytest.mark.django_db(transaction=True)
def test_one_test_that_empties_the_database() -> None:
    User.objects.create_user("x")


def test_roles_are_there_in_the_next_one() -> None:
    assert person("editor").has_perms(ROLES["editor"])
    assert not person("editor").has_perm("settings.manage_users")


def test_an_export_needs_the_right_to_export() -> None:
    assert signed_in_as("viewer").get("/api/pipelines/x/export").status_code == 403
    assert signed_in_as("editor").get("/api/pipelines/x/export").status_code == 404
