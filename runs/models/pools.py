"""Limits that nodes of different runs share."""

from django.db import models
from django.db.models import Q

from runs.models.runs import Run


class Pool(models.Model):
    """A number of slots under a name. Nodes of that pool, of any run, execute in so many slots at the same time."""

    name = models.CharField(primary_key=True, max_length=200)
    slots = models.PositiveIntegerField()
    description = models.CharField(max_length=500, blank=True, default="")

    class Meta:
        ordering = ("name",)
        constraints = (models.CheckConstraint(condition=Q(slots__gte=1), name="pool_has_slots"),)

    def __str__(self) -> str:
        return self.name


class PoolTicket(models.Model):
    """A node that waits for a slot of a pool, or holds one. It goes when the attempt ends, or with the lease of its run."""

    id = models.BigAutoField(primary_key=True)
    pool = models.CharField(max_length=200)  # no foreign key: a pool that nobody made has the default number of slots
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="+", db_index=False)
    node_id = models.CharField(max_length=200)
    holds = models.BooleanField(default=False)
    since = models.DateTimeField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=["run", "node_id"], name="pool_ticket_one_a_node"),)
        indexes = (models.Index(fields=["pool", "holds", "id"], name="pool_ticket_queue"),)

    def __str__(self) -> str:
        return f"{self.pool}: {self.node_id}"
