"""Is the system's cron ready to look at the clock? `manage.py check --deploy --tag crontab`, for those with `BROKOLI_SCHEDULER=cron`.

django-crontab's `crontab add` says nothing, and exits with 0, where there is no crontab program; and an entry that was installed by an
installation of before calls a job that is no more. Then no schedule would fire, and nobody would know.
"""

import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psutil
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage
from django_crontab.crontab import Crontab

TAG = "crontab"
_SECONDS = 10
# `#` and `%` mean something to cron and to django-crontab, and blanks and quotes to the shell.
_PLAIN = re.compile(r"[A-Za-z0-9_@:,.+=/-]+")
_OF_OTHERS = stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH
_DAEMONS = frozenset({"cron", "crond", "fcron", "dcron", "bcron-start"})
_ADD = "Run `manage.py crontab add` with the account and the environment of the workers."


def check_crontab(**_: Any) -> list[CheckMessage]:
    """Everything that would keep the entries of `settings.CRONJOBS` from doing their work; nothing where workers look at the clock."""
    if settings.SCHEDULER != "cron":
        return []
    return [*_paths(), *_file_rights(), *_unknown_to_cron(), *_entries(), *_daemon()]


def expected_lines() -> list[str]:
    """The lines that `manage.py crontab add` would write, for the settings of this process."""
    table = Crontab(readonly=True, verbosity=0)
    table.add_jobs()
    return [line.strip() for line in table.crontab_lines]


def _paths() -> Iterator[CheckMessage]:
    for what, path in (
        ("the Python interpreter", sys.executable),
        ("manage.py", settings.CRONTAB_DJANGO_MANAGE_PATH),
        ("BROKOLI_HOME", str(settings.HOME)),
        ("BROKOLI_ENV_FILE", str(settings.ENV_FILE or "/")),
    ):
        if not _PLAIN.fullmatch(path):
            hint = "Move it to a path of letters, digits and _ @ : , . + = / - only."
            yield checks.Error(f"The path of {what}, {path!r}, cannot stand in a crontab line.", hint=hint, id="system.E004")


def _file_rights() -> Iterator[CheckMessage]:
    """What it says is secret, and decides about every process of ours."""
    path = settings.ENV_FILE
    if path is not None and path.stat().st_mode & _OF_OTHERS:
        text = f"BROKOLI_ENV_FILE, {path}, can be read by everyone, or changed by others."
        yield checks.Warning(text, hint=f"`chmod 600 {path}`, as the account of the processes.", id="system.W002")


def _unknown_to_cron() -> Iterator[CheckMessage]:
    """cron starts its jobs without the environment of this process."""
    if settings.UNKNOWN_TO_CRON:
        hint = "Write them into a file of NAME=value lines, name it in BROKOLI_ENV_FILE, and run `manage.py crontab add` again."
        yield checks.Error(f"cron would run its jobs without {', '.join(settings.UNKNOWN_TO_CRON)}.", hint=hint, id="system.E005")


def _entries() -> Iterator[CheckMessage]:
    program = settings.CRONTAB_EXECUTABLE
    try:
        answer = subprocess.run([program, "-l"], capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        hint = "Install cron (Debian: `apt-get install cron`), or set BROKOLI_SCHEDULER=workers."
        yield checks.Error(f"There is no crontab program that could be run: {program} ({type(error).__name__}).", hint=hint, id="system.E001")
        return
    mark = f"# {settings.CRONTAB_COMMENT}"
    installed = [line.strip() for line in answer.stdout.splitlines() if line.strip().endswith(mark) and not line.lstrip().startswith("#")]
    expected = expected_lines()
    if missing := [line for line in expected if line not in installed]:
        said = answer.stderr.strip().partition("\n")[0]
        text = f"{len(missing)} of {len(expected)} entries are not in the crontab of this account{f' ({said})' if said else ''}."
        yield checks.Error(text, hint=_ADD, id="system.E002")
    if stale := [line for line in installed if line not in expected]:
        text = f"{len(stale)} {'entry' if len(stale) == 1 else 'entries'} in the crontab of this account would not do what the settings say any more."
        yield checks.Error(text, hint=_ADD, id="system.E003")


def _daemon() -> Iterator[CheckMessage]:
    if not any(process.info["name"] in _DAEMONS for process in psutil.process_iter(["name"])):
        hint = "Start it (Debian: `service cron start`), or ignore this where the processes of the system cannot be seen."
        yield checks.Warning("No cron daemon seems to run on this machine.", hint=hint, id="system.W001")
