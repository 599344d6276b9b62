"""Which dbt is run: the operator's `BROKOLI_DBT`, or the first on the worker's PATH."""

import os
import shutil
from pathlib import Path

from django.conf import settings

from brokoli_site.common.errors import NodeError


def found() -> Path:
    """Errors: `NodeError` when there is none."""
    configured: Path | None = settings.DBT
    if configured is not None:
        if not os.access(configured, os.X_OK) or not configured.is_file():
            raise NodeError("BROKOLI_DBT names no program that the worker may execute. An operator can correct it.")
        return configured
    program = shutil.which("dbt")
    if program is None:
        raise NodeError("There is no dbt on this worker. Install it (`pip install dbt-core` and the adapter), or set BROKOLI_DBT to its path.")
    return Path(program)


def folders_of(program: Path) -> list[Path]:
    """What the program is made of: its own folder, or the environment that it is installed in, and that one's interpreter."""
    real = program.resolve()
    folders = []
    for environment in {program.parent.parent, real.parent.parent}:
        marks = environment / "pyvenv.cfg"
        if marks.is_file():
            folders += [environment, *_interpreter(marks)]
    return folders or [real.parent]


def _interpreter(marks: Path) -> list[Path]:
    for line in marks.read_text(errors="replace").splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "home" and value.strip():
            return [Path(value.strip()).resolve().parent]
    return []
