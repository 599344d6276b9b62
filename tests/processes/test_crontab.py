"""The system's cron: entries that django-crontab installs through a real `crontab` program, run as cron would run them, and the check of all that.

The program is one of our own: the real one would change the crontab of whoever runs the tests.
"""

import datetime as dt
import os
import re
import subprocess
from pathlib import Path

import pytest
from django.utils import timezone

from pipelines.models import Pipeline
from runs.models import Run, SchedulerLook, ScheduleState
from runs.states import RunStatus
from tests.conftest import StartWorker
from tests.factories import accept_run, save_pipeline
from tests.history import past_pipeline, saved_run
from tests.programs import database_url

pytestmark = [pytest.mark.slow, pytest.mark.any_database, pytest.mark.django_db(transaction=True)]

# As cron's own: `-l` prints, or says that there is none; a file replaces; five fields or a refusal.
CRONTAB = """#!/bin/sh
table={table}
if [ "$1" = -l ]; then
  if [ -f "$table" ]; then exec cat "$table"; fi
  echo "no crontab for somebody" >&2; exit 1
fi
if grep -q '^@' "$1"; then echo "bad minute" >&2; exit 1; fi
cat "$1" > "$table"
"""
ERROR = re.compile(r"system\.[EW]\d+")


class Cron:
    """A machine with a crontab program, and an installation that is told to use it."""

    def __init__(self, folder: Path, start: StartWorker) -> None:
        self.table, self.file = folder / "table", folder / "brokoli.env"
        self._start = start
        programs = folder / "bin"
        programs.mkdir()
        (programs / "crontab").write_text(CRONTAB.format(table=self.table))
        (programs / "crontab").chmod(0o755)
        self.file.write_text(f"# all of it\nDATABASE_URL='{database_url()}'\nBROKOLI_RETENTION_DAYS=7\nPYTHONUNBUFFERED=1\n")
        self.file.chmod(0o600)
        self.variables = {"BROKOLI_SCHEDULER": "cron", "BROKOLI_ENV_FILE": str(self.file), "PATH": f"{programs}:{os.environ['PATH']}"}

    def manage(self, *arguments: str, **changes: str) -> tuple[int, str]:
        """The exit status and the words of a command of manage.py, in the environment that the operator has."""
        program = self._start(*arguments, **{"DATABASE_URL": "", **self.variables, **changes})
        return program.wait(60), program.output

    def check(self, **changes: str) -> tuple[int, set[str]]:
        """The exit status of the check, and what it found, without whether a daemon runs here."""
        status, said = self.manage("check", "--deploy", "--tag", "crontab", **changes)
        return status, set(ERROR.findall(said)) - {"system.W001"}

    def lines(self) -> list[str]:
        return self.table.read_text().splitlines() if self.table.exists() else []

    @staticmethod
    def run(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """The command of a line as cron runs it: by sh, at home, with next to no environment."""
        command = line.split(maxsplit=5)[5].replace("\\%", "%")
        bare = {"HOME": str(folder), "LOGNAME": "somebody", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
        return subprocess.run(["/bin/sh", "-c", command], env=bare, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def due_pipeline() -> tuple[Pipeline, dt.datetime]:
    """One with a tick a day, and that tick, which is due since the minute began."""
    due = timezone.now().replace(second=0, microsecond=0)
    pipeline = save_pipeline("Daily", schedule=f"{due.minute} {due.hour} * * *")
    ScheduleState.objects.update(next_tick_at=due)
    return pipeline, due


@pytest.fixture
def cron(start_program: StartWorker, tmp_path: Path) -> Cron:
    return Cron(tmp_path, start_program)


def test_entries_are_missed_installed_run_and_missed_again(cron: Cron, tmp_path: Path) -> None:
    pipeline, due = due_pipeline()
    old = saved_run(past_pipeline("old", "Old"), RunStatus.SUCCESS)
    cron.table.write_text("0 5 * * * /usr/bin/backup # somebody else's\n")
    assert cron.check() == (1, {"system.E002"})

    assert cron.manage("crontab", "add", "-v", "0") == (0, "")
    assert cron.check() == (0, set())
    others, minutely, nightly = cron.lines()
    assert "backup" in others
    assert (minutely.split()[:5], nightly.split()[:5]) == (["*"] * 5, ["30", "3", "*", "*", "*"])
    assert database_url() not in cron.table.read_text()

    for line in (minutely, nightly):
        ended = cron.run(line, tmp_path)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")  # cron mails whatever is said
    made = Run.objects.get(pipeline=pipeline)
    assert (made.trigger, made.interval_end) == ("schedule", due)
    assert SchedulerLook.objects.exists()
    assert not Run.objects.filter(id=old.id).exists()

    cron.table.write_text("\n".join([others, minutely.replace("crontab run ", "crontab run 0"), f"#{nightly}"]) + "\n")
    assert cron.check(BROKOLI_MAX_DEATHS="5") == (1, {"system.E002", "system.E003", "system.E005"})


def test_without_a_crontab_program_the_check_fails_where_installing_says_nothing(cron: Cron, tmp_path: Path) -> None:
    nowhere = {"PATH": str(tmp_path)}
    if not Path("/usr/bin/crontab").exists():  # where django-crontab looks for it otherwise
        assert cron.manage("crontab", "add", "-v", "0", **nowhere)[0] == 0
        status, found = cron.check(**nowhere)
        assert (status, found) == (1, {"system.E001"})
    (tmp_path / "bin" / "crontab").write_text("no program\n")
    assert cron.check() == (1, {"system.E001"})


def test_the_check_is_only_for_those_who_use_cron(cron: Cron, tmp_path: Path) -> None:
    assert cron.check(BROKOLI_SCHEDULER="workers", PATH=str(tmp_path)) == (0, set())


def test_workers_leave_the_clock_to_cron(cron: Cron, start_worker: StartWorker) -> None:
    pipeline, _ = due_pipeline()
    worker = start_worker(BROKOLI_SCHEDULER="cron", BROKOLI_LOG_LEVEL="DEBUG")
    run = accept_run(save_pipeline("Asked"))
    worker.wait_for(lambda: Run.objects.filter(id=run.id, status=RunStatus.SUCCESS).exists(), 60)
    assert not Run.objects.filter(pipeline=pipeline).exists()
    assert not SchedulerLook.objects.exists()
    assert cron.manage("enqueue_due_runs")[0] == 0  # which is not kept from working by entries that are missing
    assert Run.objects.filter(pipeline=pipeline).count() == 1
