"""Requests that must not be done twice."""

from django.db import models


class IdempotencyKey(models.Model):
    """What a request with an `Idempotency-Key` was, and what it was answered. Written with what it made, in one transaction."""

    id = models.BigAutoField(primary_key=True)
    scope = models.CharField(max_length=64, help_text="Whose key it is: two users may choose the same.")
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of method, path and body.")
    status_code = models.PositiveSmallIntegerField()
    headers = models.JSONField(default=dict)
    body = models.JSONField()
    created_at = models.DateTimeField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=["scope", "key"], name="idempotency_key_unique"),)
        indexes = (models.Index(fields=["created_at"], name="idempotency_key_age"),)

    def __str__(self) -> str:
        return self.key
