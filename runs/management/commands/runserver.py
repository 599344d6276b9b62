"""Django's server for development, which refuses what `serve` refuses."""

from typing import Any

from daphne.management.commands import runserver
from django.core.management.base import CommandError

from brokoli_site.common import exposure


class Command(runserver.Command):  # type: ignore[misc]  # Daphne has no types
    def inner_run(self, *args: Any, **options: Any) -> None:
        if sentence := exposure.fault(self.addr):
            raise CommandError(sentence)
        super().inner_run(*args, **options)
