"""Connections and secrets in the hands of scripts and commands: they get them, and nothing that they print or raise tells them."""

import dataclasses
import hashlib
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings, settings

from brokoli_site.common.errors import NodeError
from pipelines import uses
from pipelines.nodes.base import Stop
from pipelines.processes import running
from pipelines.spec import NodeSpec
from pipelines.vault import StoredVariable, UnknownName, Vault
from runs.engine import NodeResult
from tests.contracts.case import Given
from tests.contracts.workshop import Log, Workshop
from tests.file_servers import vault_of

CANARY = "canary/of a 'password'"
TOKEN = "canary-of-a-token"
WAREHOUSE = vault_of("postgres", "warehouse", {"token": TOKEN}, CANARY, host="db.example.org", port=5432, login="ada")


@pytest.fixture
def workshop(workshop: Workshop, settings: LazySettings) -> Workshop:
    settings.DISABLED_NODE_TYPES = ()
    return workshop


def run(workshop: Workshop, type_name: str, config: Mapping[str, Any], vault: Vault, log: Log) -> list[Any]:
    task = workshop.task(type_name, Given(config))
    task = dataclasses.replace(task, run=dataclasses.replace(task.run, vault=vault))
    with workshop.engine.open_run(workshop.run_id) as session:
        result = session.execute(task, log, Stop())
    assert isinstance(result, NodeResult)
    assert result.output is not None
    return workshop.rows(f"FROM read_parquet('{workshop.store.path(result.output.artifact)}')")


def test_a_script_has_the_connections_that_it_names(workshop: Workshop) -> None:
    script = """
c = connections["warehouse"]
import hashlib
secrets = hashlib.sha256(f"{c.password}|{c.extra['token']}".encode()).hexdigest()
output_data = [{"names": list(connections), "plain": f"{c.type} {c.host}:{c.port} {c.login}", "shown": repr(c), "secrets": secrets}]"""
    ((names, plain, shown, secrets),) = run(workshop, "code", {"script": script, "connections": ["warehouse"]}, WAREHOUSE, Log())
    assert (names, plain, shown) == (["warehouse"], "postgres db.example.org:5432 ada", "<connection 'warehouse': postgres>")
    assert secrets == hashlib.sha256(f"{CANARY}|{TOKEN}".encode()).hexdigest()


def test_one_that_names_none_has_none(workshop: Workshop) -> None:
    assert run(workshop, "code", {"script": "output_data = [{'n': len(connections)}]"}, WAREHOUSE, Log()) == [(0,)]


def test_a_name_that_there_is_not(workshop: Workshop) -> None:
    with pytest.raises(UnknownName, match="There is no connection 'lake'"):
        run(workshop, "code", {"script": "output_data = []", "connections": ["lake"]}, WAREHOUSE, Log())


def test_what_it_prints_and_raises_tells_no_secret(workshop: Workshop) -> None:
    script = """
import base64, json, sys, urllib.parse
c = connections["warehouse"]
print(c.password, c.extra)
for text in (c.password, urllib.parse.quote(c.password), json.dumps(c.password), f"#ERROR: {c.password}", f"#WARNING: {c.password}"):
    print("said", text, file=sys.stderr)
print(base64.b64encode(f"ada:{c.password}".encode()).decode())
raise ValueError(f"cannot log in with {c.password} at https://ada:{urllib.parse.quote(c.password, safe='')}@db")"""
    log = Log()
    with pytest.raises(NodeError, match="cannot log in with") as caught:
        run(workshop, "code", {"script": script, "connections": ["warehouse"]}, WAREHOUSE, log)
    told = f"{caught.value.message}\n{log.text}"
    assert told.count("***") >= 8
    assert "canary" not in told
    assert "Y2FuYXJ5" not in told


def test_a_command_gets_a_secret_in_its_environment_and_cannot_tell_it(workshop: Workshop) -> None:
    vault = Vault({"key": StoredVariable("key", "secret", settings.KEYRING.seal(CANARY, "key"), "key")})
    log = Log()
    config = {"command": 'echo "$KEY" >&2; echo "${#KEY} ${secret.key:-as it stands}" 2>&1 || true; printf "$KEY"', "env": {"KEY": "${secret.key}"}}
    with pytest.raises(NodeError) as caught:
        run(workshop, "bash", {**config, "command": f"{config['command']}; exit 3"}, vault, log)
    told = f"{caught.value.message}\n{log.text}"
    assert "***" in told
    assert "canary" not in told


def test_a_job_with_secrets_is_a_private_file_that_is_gone_when_the_script_starts(workshop: Workshop, tmp_path: Path) -> None:
    job = running.Job.script(tmp_path, running.ProcessLimits(100), {"connections": {"warehouse": {"password": CANARY}}})
    job.write()
    assert stat.S_IMODE((tmp_path / "job.json").stat().st_mode) == 0o600
    script = "import os\noutput_data = [{'files': sorted(os.listdir('..')), 'mode': oct(os.stat('..').st_mode & 0o777)}]"
    assert run(workshop, "code", {"script": script, "connections": ["warehouse"]}, WAREHOUSE, Log()) == [(["home"], "0o700")]


def test_the_names_are_found_before_it_runs() -> None:
    node = NodeSpec("c", "code", "C", {"script": "${var.no}", "connections": ["warehouse", "${param.which}", 5], "mine": "${var.region}"})
    assert uses.of_node(node) == uses.Uses(frozenset({"region"}), frozenset({"warehouse"}))
    assert [one.field for one in uses.named_in(node) if one.kind == "connection"] == ["connections.0"]
