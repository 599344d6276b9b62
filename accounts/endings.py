"""What ends when a user is no longer let in as before: tokens, and sessions that would come back with the user."""

from typing import Any

from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db.models.signals import post_save
from django.utils.timezone import now

from accounts.models import ApiToken


def end_of_the_deactivated(sender: Any, instance: User, *, created: bool, raw: bool, **_: Any) -> None:
    """Neither lets anybody in meanwhile. But who is let in again later, does so anew: what was stolen before must not come back to life."""
    if not (raw or created or instance.is_active):
        end_tokens(instance)
        end_sessions(instance)


def end_tokens(user: User) -> None:
    ApiToken.objects.filter(user_id=user.pk).delete()


def end_sessions(user: User) -> None:
    """A row of a session does not say whose it is; what is in it does."""
    key = str(user.pk)
    alive = Session.objects.filter(expire_date__gt=now())
    own = [session.pk for session in alive.iterator() if session.get_decoded().get(SESSION_KEY) == key]
    Session.objects.filter(pk__in=own).delete()


# Whoever deactivates them. The admin imports this when it starts, so it is heard in every process.
post_save.connect(end_of_the_deactivated, sender=User, dispatch_uid="accounts.endings")
