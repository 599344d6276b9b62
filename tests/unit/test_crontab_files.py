"""The file of variables that cron's jobs read: nobody else's business. No database."""

from pathlib import Path
from typing import Any

import pytest

from system import crontab


@pytest.mark.parametrize(
    ("mode", "found"), [(0o600, []), (0o640, []), (0o400, []), (0o604, ["system.W002"]), (0o620, ["system.W002"]), (0o602, ["system.W002"])]
)
def test_a_file_that_others_may_read_or_change_is_told(settings: Any, tmp_path: Path, mode: int, found: list[str]) -> None:
    settings.SCHEDULER, settings.ENV_FILE = "cron", tmp_path / "brokoli.env"
    settings.ENV_FILE.write_text("BROKOLI_SECRET_KEY=x")
    settings.ENV_FILE.chmod(mode)

    assert [message.id for message in crontab.check_crontab() if message.id == "system.W002"] == found


def test_without_a_file_there_is_nothing_to_tell(settings: Any) -> None:
    settings.ENV_FILE = None

    assert list(crontab._file_rights()) == []
