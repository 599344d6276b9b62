"""Users with rights, signed in."""

import itertools

from django.contrib.auth.models import Group, Permission, User
from django.test import Client

# Quick to check: tests hash passwords with MD5.
PASSWORD = "correct horse battery"
_made = itertools.count(1)


def signed_in(*rights: str) -> Client:
    """A client of a new user with just these rights (`runs.view`)."""
    user = User.objects.create_user(f"person{next(_made)}")
    for right in rights:
        app, codename = right.split(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    client = Client(headers={"host": "localhost"})
    client.force_login(user)
    return client


def person(role: str) -> User:
    """A new user with this role (admin, editor, operator or viewer) and `PASSWORD`."""
    user = User.objects.create_user(f"{role}{next(_made)}", password=PASSWORD)
    user.groups.add(Group.objects.get(name=role))
    return user


def signed_in_as(role: str) -> Client:
    """A client of a new user with this role."""
    client = Client(headers={"host": "localhost"})
    client.force_login(person(role))
    return client
