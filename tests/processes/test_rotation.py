"""Keys are rotated while a real server and its worker use what they seal: nobody notices."""

import json
import threading
from typing import Any

import pytest
import requests
from cryptography.fernet import Fernet
from django.utils import timezone

from brokoli_site.common.secrets import Keyring
from pipelines import variables
from pipelines.models import Pipeline, Variable
from runs.models import Run
from runs.states import RunStatus
from tests.conftest import StartServer, StartWorker
from tests.factories import save_pipeline, sql_node
from tests.programs import Server, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))
MANY = 1_000  # secrets: a rotation that takes long enough to meet others


def test_nobody_notices_a_rotation(start_server: StartServer, start_program: StartWorker, settings: Any) -> None:
    old = settings.KEYRING = Keyring.read(OLD)
    variables.create("token", {"type": "secret", "value": "the value"})
    fill()
    pipeline = save_pipeline("Uses", nodes=[sql_node("only", "SELECT CASE WHEN ${secret.token} = 'the value' THEN 1 ELSE error('another') END AS x")])
    server = start_server(BROKOLI_ENCRYPTION_KEYS=f"{NEW},{OLD}")
    stop, answered = threading.Event(), list[int]()
    user = threading.Thread(target=use, args=(server, pipeline, stop, answered))
    user.start()
    try:
        wait_for(lambda: succeeded() >= 1, what="a run with the old key")
        before = len(answered)
        rotation = start_program("rotate_secrets", BROKOLI_ENCRYPTION_KEYS=f"{NEW},{OLD}")
        assert rotation.wait(60) == 0, rotation.output
        meanwhile, seen = len(answered) - before, succeeded()
        wait_for(lambda: succeeded() > seen + 1, what="a run with the new key")
    finally:
        stop.set()
        user.join(60)
    assert f"secrets with the key {Keyring.read(NEW).ids[0]}; " in rotation.output and "; 0 cannot be opened." in rotation.output
    assert not [sealed for sealed in Variable.objects.values_list("value", flat=True) if old.is_current(sealed)]
    assert meanwhile >= 1 and set(answered) == {200, 202}
    server.clean_up()

    server = start_server(BROKOLI_ENCRYPTION_KEYS=NEW)
    seen = succeeded()
    assert requests.post(f"{server.url}/api/pipelines/{pipeline.id}/run", timeout=30).status_code == 202
    wait_for(lambda: succeeded() > seen, what="a run with the new key alone")
    wait_for(lambda: not Run.objects.filter(status__in=[RunStatus.PENDING, RunStatus.RUNNING]).exists(), what="the runs to end")
    assert set(Run.objects.values_list("status", flat=True)) == {RunStatus.SUCCESS}


def fill() -> None:
    """Secrets beside the one that is used."""
    now = timezone.now()
    rows = [Variable(key=f"other_{number}", type="secret", created_at=now, updated_at=now) for number in range(MANY)]
    for row in rows:
        row.value = Keyring.read(OLD).seal("another value", row.identity)
    Variable.objects.bulk_create(rows)


def use(server: Server, pipeline: Pipeline, stop: threading.Event, answered: list[int]) -> None:
    """Requests that need secrets, one after the other: a dry run opens one here, a run in the worker, and a change seals one anew."""
    number = 0
    while not stop.is_set():
        number += 1
        changed = json.dumps({"value": f"changed {number}"})
        for method, path, body in (
            ("POST", f"pipelines/{pipeline.id}/run", ""),
            ("POST", f"pipelines/{pipeline.id}/dry-run", ""),
            ("PATCH", f"variables/other_{number % MANY}", changed),
        ):
            response = requests.request(method, f"{server.url}/api/{path}", data=body, headers={"Content-Type": "application/json"}, timeout=30)
            failed = "dry-run" in path and '"error"' in response.text and "another" in response.text
            answered.append(500 if failed else response.status_code)


def succeeded() -> int:
    return Run.objects.filter(status=RunStatus.SUCCESS).count()
