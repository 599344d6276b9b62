"""The rows of this app."""

from typing import Any, NoReturn

from django.db import models
from django.db.models import Q

from brokoli_site.common.fields import DocumentField
from brokoli_site.common.ids import new_id


class OpenLineageCursor(models.Model):
    """How far the log was told to the collector. One row, whose holder tells; the log itself is the outbox."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    seq = models.BigIntegerField(help_text="Of the last entry of the log that is settled: told, refused, or nothing to tell of.")
    holder = models.CharField(max_length=64, blank=True, default="")
    held_until = models.DateTimeField(null=True, blank=True)
    failures = models.PositiveIntegerField(default=0, help_text="Tries in a row that failed.")
    retry_at = models.DateTimeField(null=True, blank=True)
    problem = models.TextField(blank=True, default="", help_text="Why the last try failed, or what was refused last.")
    sent = models.BigIntegerField(default=0)
    refused = models.BigIntegerField(default=0, help_text="Events that the collector did not want.")
    skipped = models.BigIntegerField(default=0, help_text="Entries of the log that were passed over because the collector was away for too long.")

    class Meta:
        constraints = (models.CheckConstraint(condition=Q(id=1), name="openlineage_cursor_single"),)

    def __str__(self) -> str:
        return str(self.seq)


class AppendOnly(TypeError):
    """The audit log is only ever added to; what is too old is deleted by its retention alone."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__(self.__doc__)


class AuditQuerySet(models.QuerySet["AuditEntry"]):
    """Reads, and adds. A trigger in the database refuses an UPDATE of whatever got past this."""

    def update(self, **_: Any) -> NoReturn:
        raise AppendOnly

    def bulk_update(self, *_: Any, **__: Any) -> NoReturn:
        raise AppendOnly

    def delete(self) -> NoReturn:
        raise AppendOnly

    def delete_expired(self) -> int:
        """For `audit_retention` alone. Nothing hangs on these rows, so one statement does it."""
        return int(self._raw_delete(self.db))  # what `delete` ends in


class AuditEntry(models.Model):
    """Who did what to which object, from where, and what it changed. Names as they were then: nothing here changes with its object or its user."""

    # UUIDv7: pages go by it, newest first, and so do times.
    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    at = models.DateTimeField()
    actor = models.CharField(max_length=200, blank=True, help_text="Name of the user then; `local`, `system`, `webhook`, `command:…`.")
    user_id = models.CharField(max_length=40, blank=True, default="")
    via = models.CharField(max_length=20, help_text="session, token, basic, local, command, webhook, system or anonymous.")
    token = models.CharField(max_length=100, blank=True, default="", help_text="Name of the token.")
    address = models.CharField(max_length=64, blank=True, default="")
    request_id = models.CharField(max_length=64, blank=True, default="")
    action = models.CharField(max_length=60)
    area = models.CharField(max_length=40, help_text="What stands before the dot of the action.")
    kind = models.CharField(max_length=40)
    object_id = models.CharField(max_length=100, blank=True, default="")
    name = models.CharField(max_length=200, blank=True, default="", help_text="Of the object, then.")
    diff = DocumentField(default=dict)

    objects = AuditQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        verbose_name_plural = "audit log"
        default_permissions = ()
        indexes = (
            models.Index(fields=["actor", "-id"], name="audit_actor"),
            models.Index(fields=["user_id", "-id"], name="audit_user"),
            models.Index(fields=["action", "-id"], name="audit_action"),
            models.Index(fields=["area", "-id"], name="audit_area"),
            models.Index(fields=["kind", "-id"], name="audit_kind"),
            models.Index(fields=["object_id", "-id"], name="audit_object"),
            models.Index(fields=["request_id", "-id"], name="audit_request"),
        )

    def __str__(self) -> str:
        return f"{self.action} {self.name or self.object_id}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise AppendOnly
        super().save(*args, **{**kwargs, "force_insert": True})

    def delete(self, *_: Any, **__: Any) -> NoReturn:
        raise AppendOnly
