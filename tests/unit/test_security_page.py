"""What docs/security.md shows can be used as it stands."""

import re

import pytest
import yaml

from brokoli_site import environment
from tests.programs import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text()
WORKER = yaml.safe_load(re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0])["services"]["worker"]


@pytest.mark.parametrize("page", ["security.md", "deployment.md"])
def test_the_settings_exist(page: str) -> None:
    known = {variable.name for variable in environment.VARIABLES}
    named = set(re.findall(r"\bBROKOLI_[A-Z_]+[A-Z]\b", (ROOT / "docs" / page).read_text()))

    assert len(named) > 5
    assert named <= known


def test_the_defaults_are_these() -> None:
    defaults = {variable.name: int(variable.default) for variable in environment.VARIABLES if variable.name.startswith("BROKOLI_RATE_LIMIT")}
    shown = {name: int(number.replace(",", "")) for name, number in re.findall(r"^\| `(BROKOLI_RATE_LIMIT\w*)` \| ([\d,]+) \|", PAGE, re.MULTILINE)}

    assert shown == defaults


def test_a_worker_in_a_container_has_little() -> None:
    assert WORKER["read_only"] is True
    assert WORKER["cap_drop"] == ["ALL"]
    assert WORKER["security_opt"] == ["no-new-privileges:true"]
    assert {"pids_limit", "mem_limit", "memswap_limit", "cpus", "tmpfs"} <= set(WORKER)
    assert not {"privileged", "network_mode", "pid", "cap_add", "devices"} & set(WORKER)
    assert WORKER["command"][-1] == "runworker"
