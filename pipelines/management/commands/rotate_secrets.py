"""`manage.py rotate_secrets`: seal every stored secret with the newest key."""

import argparse
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from brokoli_site.common.commands import AuditedCommand
from brokoli_site.common.migrations import is_up_to_date
from pipelines import sealing


class Command(AuditedCommand):
    help = "Seal the secrets that older keys sealed with the newest of BROKOLI_ENCRYPTION_KEYS. Safe while the server runs, and to interrupt."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only say what would be sealed anew")

    def handle(self, *args: Any, dry_run: bool, **options: Any) -> None:
        if not is_up_to_date():
            raise CommandError("The database is not up to date: run `manage.py migrate` first.")
        done = sealing.reseal(dry_run=dry_run)
        verb = "Would seal" if dry_run else "Sealed"
        newest, missing = settings.KEYRING.ids[0], len(done.missing)
        self.stdout.write(f"{verb} {done.resealed} secrets with the key {newest}; {done.current} had it already; {missing} cannot be opened.")
        for name in done.missing:
            self.stderr.write(f"No key for {name}")
        if done.missing:
            raise CommandError("Add the missing keys to BROKOLI_ENCRYPTION_KEYS, after the newest, or give these secrets anew.")
