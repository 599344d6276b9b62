"""A package with a node type: installed with pip, it works in server and worker; broken or removed, it harms nothing else."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from pipelines.spec import InvalidPipeline
from runs.models import NodeOutput, NodeRun
from tests.conftest import StartServer, StartWorker
from tests.factories import accept_run, make_pipeline, sql_node
from tests.node_types import forget_types
from tests.programs import ROOT, wait_for

pytestmark = pytest.mark.any_database

PLACES = "SELECT 40.6925 AS lat, -74.1687 AS lon, 21.3187 AS to_lat, -157.9225 AS to_lon"
CONFIG = {"from_latitude": "lat", "from_longitude": "lon", "to_latitude": "to_lat", "to_longitude": "to_lon"}
NODES = [sql_node("places", PLACES), {"id": "far", "type": "great_circle", "name": "Far", "config": CONFIG}]
EDGES = [("places", "far")]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example package, as pip installs it from its sources, without a network."""
    folder = tmp_path_factory.mktemp("installed")
    source = shutil.copytree(ROOT / "examples" / "node_type_package", tmp_path_factory.mktemp("source") / "package")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
        "--target",
        str(folder),
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def _broken(folder: Path, *points: str) -> Path:
    """What pip leaves of a package with these entry points."""
    about = folder / "broken-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[brokoli.node_types]\n" + "\n".join(points) + "\n")
    (folder / "broken_types.py").write_text("Thing = 3\n")
    (folder / "breaking.py").write_text("raise RuntimeError('no licence')\n")
    return folder


def _document(node_type: str) -> dict[str, Any]:
    node = {"id": "far", "type": node_type, "name": "Far", "config": CONFIG}
    return {"name": f"With {node_type}", "nodes": [NODES[0], node], "edges": [{"from": "places", "to": "far"}]}


@pytest.mark.slow
def test_an_installed_type_works_and_broken_ones_harm_nothing(
    installed: Path, tmp_path: Path, start_server: StartServer, start_program: StartWorker
) -> None:
    broken = _broken(tmp_path / "broken", "breaking = breaking:Thing", "thing = broken_types:Thing", "join = broken_types:Thing")
    path = f"{installed}:{broken}"
    server = start_server("--workers", "1", PYTHONPATH=path)
    types = {found["type"]: found for found in requests.get(f"{server.url}/api/node-types", timeout=10).json()}
    assert types["great_circle"]["schema"]["properties"]["unit"]["enum"] == ["km", "mi"]
    assert types["join"]["label"] == "Join"
    assert not {"breaking", "thing"} & types.keys()
    for name, words in (("breaking", "RuntimeError: no licence"), ("thing", "is not a class derived from NodeType")):
        refused = requests.post(f"{server.url}/api/pipelines", json=_document(name), timeout=10)
        assert 400 <= refused.status_code < 500
        assert words in refused.text

    made = requests.post(f"{server.url}/api/pipelines", json=_document("great_circle"), timeout=10)
    assert made.status_code == 201, made.text
    run = requests.post(f"{server.url}/api/pipelines/{made.json()['id']}/run", json={}, timeout=10).json()
    output = wait_for(lambda: NodeOutput.objects.filter(run=run["id"], node_id="far").first(), 60, "the output")
    assert output is not None
    assert round(output.preview["rows"][0][-1]) == 7973
    assert output.lineage["columns"][-1]["from"] == [{"node_id": "places", "column": name} for name in ("lat", "lon", "to_lat", "to_lon")]

    checked = start_program("check", PYTHONPATH=path)
    assert checked.wait(60) == 0
    for words in ("pipelines.W001", "no licence", "'thing'", "'join' is registered twice"):
        assert words in checked.output


@pytest.mark.slow
def test_after_its_package_was_removed_a_type_is_unknown(installed: Path, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as while_installed:
        while_installed.syspath_prepend(str(installed))
        forget_types()
        run = accept_run(make_pipeline(NODES, EDGES))
    forget_types()
    with pytest.raises(InvalidPipeline, match="There is no node type 'great_circle'"):
        accept_run(make_pipeline(NODES, EDGES))
    assert start_worker("--drain").wait(60) == 0
    assert "There is no node type 'great_circle'" in NodeRun.objects.get(run=run, node_id="far").error


@pytest.mark.slow
def test_the_packages_own_tests_pass(installed: Path) -> None:
    tests = ROOT / "examples" / "node_type_package" / "tests"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:django",
        "-c",
        "/dev/null",
        "--rootdir",
        str(tests),
        str(tests),
    ]
    environment = {"PYTHONPATH": f"{installed}:{ROOT}", "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == 0, done.stdout
