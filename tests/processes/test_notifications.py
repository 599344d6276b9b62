"""Real workers tell real servers, also when they die while they do."""

import contextlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from pipelines.models import Pipeline
from runs.models import LogEntry, Notification, Run
from tests.conftest import StartWorker
from tests.factories import accept_run, make_pipeline, sql_node
from tests.programs import free_port, wait_for
from tests.receivers import answer, receiver

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


def hooked(hooks: dict[str, Any], query: str = "SELECT 1 AS x") -> Pipeline:
    pipeline = make_pipeline([sql_node("only", query)])
    pipeline.versions.update(document=pipeline.versions.get().document | {"hooks": hooks})
    return pipeline


class Mailbox:
    def __init__(self) -> None:
        self.mails: list[Envelope] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - the name that aiosmtpd calls
        self.mails.append(envelope)
        return "250 OK"


@contextlib.contextmanager
def mail_server() -> Iterator[tuple[int, Mailbox]]:
    box = Mailbox()
    controller = Controller(box, hostname="127.0.0.1", port=free_port())
    controller.start()
    try:
        yield controller.port, box
    finally:
        controller.stop()


def test_a_worker_tells_of_a_start_a_failed_node_and_a_failed_run(start_worker: StartWorker) -> None:
    """Each receiver its own way; the one that answers 500 first is told again, and the worker ends only then."""
    with receiver(answer(500), answer(200)) as web, mail_server() as (port, box):
        hooks = {
            "on_start": {"type": "slack", "url": web.url("/slack")},
            "on_node_failure": {"url": "${env.BROKOLI_VAR_HOOK}"},
            "on_failure": {"type": "email", "url": "ops@example.org"},
        }
        run = accept_run(hooked(hooks, "SELECT error('broken')"))
        variables = {"BROKOLI_ALLOWED_NETWORKS": "127.0.0.1", "BROKOLI_VAR_HOOK": web.url("/node"), "BROKOLI_EMAIL_URL": f"smtp://127.0.0.1:{port}"}
        worker = start_worker(**variables)
        worker.wait_for(lambda: Notification.objects.filter(status="sent").count() == 3, 60, "three to be told")

    run.refresh_from_db()
    assert run.status == "failed"
    assert sorted(request.path for request in web.received) in (["/node", "/node", "/slack"], ["/node", "/slack", "/slack"])
    (mail,) = box.mails
    assert mail.rcpt_tos == ["ops@example.org"]
    content = (mail.content or b"").decode() if isinstance(mail.content, bytes) else str(mail.content)
    assert "Subject: [Brokoli] Orders failed:" in content
    told = LogEntry.objects.filter(run=run, message__startswith="Told ").values_list("message", flat=True)
    assert sorted(told) == sorted(
        [
            f"Told slack 127.0.0.1:{web.port} of on_start",
            "Told webhook ${env.BROKOLI_VAR_HOOK} of on_node_failure",
            "Told email ops@example.org of on_failure",
        ]
    )
    assert "canary" not in worker.output


@pytest.mark.slow
def test_a_worker_that_is_killed_while_it_sends_is_followed_by_another(start_worker: StartWorker) -> None:
    reached: list[str] = []

    def stall(handler: BaseHTTPRequestHandler) -> None:
        reached.append(handler.path)
        server.ended.wait(60)

    with receiver(stall, answer(200)) as server:
        run = accept_run(hooked({"on_success": server.url()}))
        first = start_worker(BROKOLI_ALLOWED_NETWORKS="127.0.0.1", BROKOLI_LEASE_SECONDS="2")
        first.wait_for(lambda: reached, 60, "the delivery to begin")
        first.kill()
        assert Notification.objects.get().status == "pending"
        start_worker(BROKOLI_ALLOWED_NETWORKS="127.0.0.1")
        wait_for(lambda: Notification.objects.filter(status="sent").exists(), 60, "another worker to tell")
        keys = [request.headers["idempotency-key"] for request in server.received]
        assert len(keys) == 2
        assert len(set(keys)) == 1
    assert Notification.objects.get().attempts == 2
    assert Run.objects.get().status == "success"
    assert LogEntry.objects.filter(run=run, message__startswith="Told ").count() == 1


def test_a_worker_that_ends_with_the_queue_sends_first(start_worker: StartWorker) -> None:
    with receiver() as server:
        accept_run(hooked({"on_success": server.url()}))
        assert start_worker("--drain", BROKOLI_ALLOWED_NETWORKS="127.0.0.1").wait(60) == 0
        assert len(server.received) == 1
    assert Notification.objects.get().status == "sent"


def test_a_receiver_that_stalls_holds_neither_runs_nor_other_receivers(start_worker: StartWorker) -> None:
    def stall(_: BaseHTTPRequestHandler) -> None:
        slow.ended.wait(60)

    with receiver(stall) as slow, receiver() as quick:
        accept_run(hooked({"on_success": [slow.url(f"/{n}") for n in range(10)]}))
        worker = start_worker(BROKOLI_ALLOWED_NETWORKS="127.0.0.1")
        worker.wait_for(lambda: slow.received, 60, "the slow one to be asked")
        pipeline = hooked({"on_success": quick.url()})
        runs = [accept_run(pipeline), accept_run(pipeline)]
        worker.wait_for(lambda: len(quick.received) == 2, 60, "the quick one to be told")
        assert len(slow.received) < 10, "each takes its 10 s, and two at a time: the others were not waited for"
        assert Run.objects.filter(status="success", id__in=[run.id for run in runs]).count() == 2
