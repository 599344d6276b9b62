"""Management commands whose changes the audit log has under their name."""

from typing import Any

from django.core.management.base import BaseCommand

from brokoli_site.common import audit


class AuditedCommand(BaseCommand):
    """What it changes is done by whoever started it: `command:purge_runs (ada)`."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        with audit.command(type(self).__module__.rpartition(".")[2]):
            return super().execute(*args, **options)
