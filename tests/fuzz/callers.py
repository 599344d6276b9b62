"""Who calls: nobody in particular, and a user of each role."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field

from django.contrib.auth.models import Group, User

STRANGER = "stranger"
ADMIN = "admin"
NAMES = (ADMIN, "editor", "operator", "viewer", STRANGER)


@dataclass(frozen=True, slots=True)
class Caller:
    """`headers` are sent with each request."""

    name: str
    headers: Mapping[str, str] = field(default_factory=dict)


def make(name: str) -> Caller:
    """A caller whose user, if it is somebody, is in the database from now on. There is a user in any case, so that local mode has ended."""
    user = User.objects.create_user(name, password=name)
    if name == STRANGER:
        return Caller(name)
    user.groups.add(Group.objects.get(name=name))
    return Caller(name, {"Authorization": "Basic " + base64.b64encode(f"{name}:{name}".encode()).decode()})
