"""Who calls: nobody in particular, and a user of each role."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field

from axes.models import AccessAttempt
from django.contrib.auth.models import Group, User

STRANGER = "stranger"
PASSWORD = "correct horse battery of a fuzz"


@dataclass(frozen=True, slots=True)
class Caller:
    """`headers` are sent with each request."""

    name: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def restore(self) -> None:
        """Undo what a call may have done to the user who sent it, and forgive the wrong passwords: the fuzz is to go on."""
        AccessAttempt.objects.all().delete()
        user = User.objects.get_or_create(username=self.name)[0]
        if not user.check_password(PASSWORD):
            user.set_password(PASSWORD)
        user.is_active = True
        user.save()
        # There is a user in any case, so that local mode has ended; a stranger is just not known to be that user.
        user.groups.set(Group.objects.filter(name=self.name))


def make(name: str) -> Caller:
    """A caller whose user, if it is somebody, is in the database from now on."""
    basic = base64.b64encode(f"{name}:{PASSWORD}".encode()).decode()
    caller = Caller(name, {} if name == STRANGER else {"Authorization": f"Basic {basic}"})
    caller.restore()
    return caller
