"""What accounts leave behind, forgotten in time by a worker: expired tokens, expired sessions, guesses that count no more."""

from django.contrib.sessions.models import Session
from django.utils.timezone import now

from accounts import lockout, tokens
from runs.ticker import Chore

_EVERY_SECONDS = 600.0


def chore() -> Chore:
    return Chore("forget expired logins", _EVERY_SECONDS, forget)


def forget() -> None:
    tokens.prune(now())
    lockout.prune()
    Session.objects.filter(expire_date__lt=now()).delete()
