"""Django's own commands that make and change users, `createsuperuser` and `changepassword`: noticed by the rows that they save."""

from contextlib import ExitStack
from contextvars import ContextVar
from typing import Any

from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models.signals import post_save, pre_save

from brokoli_site.common import audit
from brokoli_site.common.commands import AuditedCommand
from brokoli_site.common.differences import told_of_secret

_SHOWN = ("is_active", "is_staff", "is_superuser")
_BEFORE = "_audit_before"
# What the command that is running does at its end.
_end: ContextVar[ExitStack | None] = ContextVar("audit_end", default=None)


class InOneTransaction(AuditedCommand):
    """A command of Django's whose saved user and its entry are committed together: put before it.

    The transaction begins when the user is saved, not with the command: on SQLite nobody else could write while somebody types a password.
    """

    def handle(self, *args: Any, **options: Any) -> str | None:
        with ExitStack() as end:
            around = _end.set(end)
            try:
                answer: str | None = super().handle(*args, **options)
            finally:
                _end.reset(around)
        return answer


def listen() -> None:
    """From now on. Call when the app starts."""
    user = get_user_model()
    pre_save.connect(remember, sender=user, dispatch_uid="audit.remember")
    post_save.connect(tell, sender=user, dispatch_uid="audit.tell")


def remember(sender: Any, instance: Any, using: str, **_: Any) -> None:
    """The row as it was."""
    if (end := _end.get()) is not None:
        end.enter_context(transaction.atomic(using))
    if _by_a_command() and not instance._state.adding:
        setattr(instance, _BEFORE, sender._default_manager.filter(pk=instance.pk).values(*_SHOWN, "password").first())


def tell(sender: Any, instance: Any, *, created: bool, raw: bool, **_: Any) -> None:
    """Requests have entries of their own, of what was asked for."""
    if raw or not _by_a_command():
        return
    old: dict[str, Any] = getattr(instance, _BEFORE, None) or {}
    before = {name: old[name] for name in _SHOWN} | {"password": told_of_secret(old["password"])} if old else None
    after = {name: getattr(instance, name) for name in _SHOWN} | {"password": told_of_secret(instance.password, old.get("password"))}
    audit.note("user.created" if created else "user.updated", "user", instance.pk, instance.get_username(), before=before, after=after)


def _by_a_command() -> bool:
    return audit.current().via == "command"
