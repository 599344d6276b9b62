"""`manage.py load_examples`: the example pipelines and their data, ready to run. Calling it again brings them up to date."""

import filecmp
import os
import shutil
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.db import transaction
from django.utils import timezone

from brokoli_site.common import audit, yaml
from brokoli_site.common.commands import AuditedCommand
from brokoli_site.common.errors import BrokoliError
from brokoli_site.common.migrations import is_up_to_date
from pipelines import definitions
from pipelines.documents import normalised
from pipelines.models import Connection, Pipeline


class Command(AuditedCommand):
    help = "Copy the data of the examples into the data folder, and create the example pipelines or bring them up to date."

    def handle(self, *args: Any, verbosity: int, **options: Any) -> None:
        if not is_up_to_date():
            raise CommandError("The database is not up to date: run `manage.py migrate` first.")
        examples = Path(settings.BASE_DIR) / "examples"
        target = settings.DATA_DIRS[0] / "examples"
        try:
            target.mkdir(parents=True, exist_ok=True)
            for source in sorted(path for path in (examples / "data").iterdir() if path.suffix != ".md"):
                _copy(source, target / source.name)
        except OSError as error:
            raise CommandError(f"The data of the examples cannot be written to {target}: {error.strerror}.") from error
        connect()
        for path in sorted(examples.glob("*.yaml")):
            done = _load(path)
            if verbosity > 0:
                self.stdout.write(f"{done}: {path.stem}")


def connect() -> None:
    """The database of the examples, unless somebody has made it another one."""
    now = timezone.now()
    given = {"type": "sqlite", "host": "examples/warehouse.db", "description": "The examples' database.", "created_at": now, "updated_at": now}
    with transaction.atomic():
        row, made = Connection.objects.get_or_create(conn_id="example_warehouse", defaults=given)
        if made:
            audit.record("connection.created", "connection", row.conn_id, row.conn_id, after={name: given[name] for name in ("type", "host")})


def _copy(source: Path, target: Path) -> None:
    """Written beside and renamed: a run that reads the file meanwhile sees the old one or the new one."""
    if target.exists() and filecmp.cmp(source, target, shallow=False):
        return
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(source, draft)
    draft.replace(target)


def _load(path: Path) -> str:
    """What was done with the pipeline of this file: created, updated, or nothing."""
    document = yaml.loads(path.read_bytes())
    existing = Pipeline.objects.live().filter(pipeline_id=document["pipeline_id"]).first()
    if existing is not None and definitions.find(existing.id).document == normalised(document):
        return "Up to date"
    try:
        _, new = definitions.import_document(document, on_taken="replace")
    except BrokoliError as error:
        raise CommandError(f"{path.name}: {error.message}") from error
    return "Created" if new else "Updated"
