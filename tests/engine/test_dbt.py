"""What `dbt` gets from a connection, and a real dbt where the package index has one."""

import contextlib
import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as settings_of

from brokoli_site.common.addresses import Allowed
from brokoli_site.common.errors import NodeError
from pipelines.vault import StoredVariable, Vault
from tests.contracts.case import Given
from tests.contracts.cases.dbt import project
from tests.contracts.workshop import Workshop
from tests.file_servers import vault_of

CONFIG = {"project_dir": "project", "conn_id": "files", "target_schema": "marts"}


@pytest.fixture
def workshop(workshop: Workshop, settings: Any) -> Workshop:
    settings.ALLOWED_NETWORKS = Allowed.read("127.0.0.0/8")
    return workshop


def test_a_profile_is_made_from_a_connection_and_its_password_is_in_no_argument_file_or_log(workshop: Workshop) -> None:
    project(shows_itself="")(workshop)
    vault = vault_of(
        "postgres", password="dbt-canary-password", host="127.0.0.1", port=5433, schema="warehouse", login="loader", extra={"sslmode": "disable"}
    )
    outcome = workshop.run("dbt", Given(CONFIG, vault=vault))
    assert "canary" not in outcome.log.text
    shown = json.loads(next(line for _, line in outcome.log.lines if line.startswith("{")))
    assert shown["arguments"] == ["--log-format", "json", "run", "--target", "brokoli"]
    assert shown["environment"]["BROKOLI_DBT_PASSWORD"] == "***"
    assert "env_var(''BROKOLI_DBT_PASSWORD'')" in shown["profile"]
    for words in ("flights:", "type: postgres", "port: 5433", "dbname: warehouse", "schema: marts"):
        assert words in shown["profile"]
    assert not any(name.startswith(("DJANGO", "BROKOLI_")) and name != "BROKOLI_DBT_PASSWORD" for name in shown["environment"])
    assert not list(workshop.folder.rglob("profiles.yml"))


def test_the_table_of_a_model_flows_on(workshop: Workshop) -> None:
    with contextlib.closing(sqlite3.connect(workshop.folder / "warehouse.db")) as database:
        database.execute("CREATE TABLE stg AS SELECT 1 AS id, 'Ann' AS name")
        database.commit()
    nodes = {"model.flights.stg": {"name": "stg", "relation_name": '"main"."stg"'}, "model.flights.temp": {"name": "temp", "relation_name": None}}
    project(**{"manifest.json": json.dumps({"nodes": nodes})})(workshop)
    vault = vault_of("sqlite", host="warehouse.db")
    outcome = workshop.run("dbt", Given({**CONFIG, "output_model": "stg"}, vault=vault))
    assert (outcome.columns, outcome.rows) == (["id", "name"], [(1, "Ann")])
    with pytest.raises(NodeError, match=r"the project makes no table 'temp'\. It makes: stg\."):
        workshop.run("dbt", Given({**CONFIG, "output_model": "temp"}, vault=vault))


@pytest.mark.parametrize("field", ["vars", "select", "target"])
def test_a_secret_is_no_argument_of_the_program(workshop: Workshop, field: str) -> None:
    """Arguments are read by everybody on the machine."""
    identity = "variable:token"
    vault = Vault({"token": StoredVariable("token", "secret", settings_of.KEYRING.seal("canary_of_the_token", identity), identity)})
    with pytest.raises(NodeError, match=f"'{field}' holds a secret"):
        workshop.run("dbt", Given({"project_dir": "project", field: "${secret.token}"}, vault=vault))


def test_a_host_that_may_not_be_reached_is_not_handed_to_dbt(workshop: Workshop, settings: Any) -> None:
    settings.ALLOWED_NETWORKS = Allowed()
    project()(workshop)
    with pytest.raises(NodeError, match="BROKOLI_ALLOWED_NETWORKS"):
        workshop.run("dbt", Given(CONFIG, vault=vault_of("postgres", host="127.0.0.1", schema="warehouse")))


def test_a_server_without_dbt_says_so(workshop: Workshop, settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings.DBT = None
    monkeypatch.setenv("PATH", str(tmp_path))
    project()(workshop)
    with pytest.raises(NodeError, match="There is no dbt on this worker"):
        workshop.run("dbt", Given({"project_dir": "project"}))


@pytest.mark.slow
def test_a_real_dbt_builds_and_names_what_failed(workshop: Workshop, settings: Any, tmp_path: Path) -> None:
    """In an environment of its own, from the package index."""
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "dbt-core>=1.8,<1.11", "dbt-duckdb>=1.8,<1.11"]
    installed = subprocess.run(install, capture_output=True, text=True, timeout=900, check=False)
    if installed.returncode:
        pytest.skip(f"dbt cannot be installed here: {installed.stderr.strip().splitlines()[-1:]}")
    settings.DBT = environment / "bin" / "dbt"
    project()(workshop)
    folder = workshop.folder / "project"
    (folder / "models").mkdir()
    (folder / "profiles.yml").write_text(f"flights:\n  target: dev\n  outputs:\n    dev: {{type: duckdb, path: '{workshop.folder}/dbt.duckdb'}}\n")
    (folder / "models" / "stg.sql").write_text("select 1 as id union all select 2")
    (folder / "models" / "late.sql").write_text("select count(*) as n from {{ ref('stg') }}")
    outcome = workshop.run("dbt", Given({"project_dir": "project", "command": "build"}))
    assert [(row[1], row[2], row[3]) for row in outcome.rows] == [("stg", "model", "success"), ("late", "model", "success")]
    assert "progress: 1.0 2 of 2 done" in outcome.log.text
    (folder / "models" / "late.sql").write_text("select * from nowhere")
    with pytest.raises(NodeError, match=r"dbt run failed\. model late: Runtime Error in model late .*nowhere"):
        workshop.run("dbt", Given({"project_dir": "project"}))
