"""`sink_api` and `notify` against real servers: keys, retries, and what is told when it fails half-way (FAULTS row 20)."""

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from brokoli_site.common.errors import NodeCancelled, NodeError
from pipelines.nodes.base import Stop
from pipelines.spec import RetryPolicy
from tests.contracts.case import Given
from tests.contracts.workshop import Log, Workshop
from tests.patience import within
from tests.programs import free_port
from tests.receivers import Receiver, answer, receiver
from tests.web.connections import http_vault

pytestmark = pytest.mark.any_database
ROWS = "SELECT i AS id FROM range(25) t(i)"


def run(workshop: Workshop, type_name: str, given: Given, run_id: str = "run", first: str = "") -> Log:
    """An attempt of the node `sink`, with quick retries."""
    task, log = workshop.task(type_name, given, node_id="sink"), Log()
    node = replace(task.node, retry=RetryPolicy(2, 10, "fixed"))
    task = replace(task, node=node, run=replace(task.run, run_id=run_id, first_run_id=first))
    with workshop.engine.open_run(workshop.run_id) as session:
        try:
            session.execute(task, log, Stop())
        except NodeError as error:
            log.lines.append(("raised", f"{type(error).__name__} {error.message}"))
    return log


def keys(server: Receiver) -> list[str]:
    return [request.headers["idempotency-key"] for request in server.received]


def test_a_batch_keeps_its_key_over_retries_attempts_and_resumed_runs(workshop: Workshop) -> None:
    with receiver(answer(500), answer(429, Retry_After="0"), answer(200)) as server:
        given = Given({"url": server.url(), "batch_size": 10}, [ROWS])
        log = run(workshop, "sink_api", given)
        first = keys(server)
        assert len(first) == 5
        assert first[0] == first[1] == first[2]
        assert len(set(first)) == 3
        assert [len(json.loads(request.body)) for request in server.received] == [10, 10, 10, 10, 5]
        assert "Batch 3 of 3: 5 rows accepted" in log.text
        server.received.clear()
        run(workshop, "sink_api", given)
        assert keys(server) == first[2:]
        server.received.clear()
        run(workshop, "sink_api", given, run_id="resumed", first="run")
        assert keys(server) == first[2:]
        server.received.clear()
        run(workshop, "sink_api", given, run_id="another")
        assert not set(keys(server)) & set(first)


def test_what_was_accepted_is_told_when_it_fails_half_way(workshop: Workshop) -> None:
    with receiver(answer(200), answer(200), answer(500, b'{"error": "full"}')) as server:
        log = run(workshop, "sink_api", Given({"url": server.url("/in?key=canary"), "batch_size": 10}, [ROWS]))
        assert len(server.received) == 5
        expected = "Batches 1–2 were accepted (20 rows). Batch 3 of 3 (POST "  # noqa: RUF001 - a range
        assert f"error: {expected}" in log.text
        assert f"raised: TransientNodeError {expected}" in log.text
        assert 'was answered with 500 Internal Server Error. The server says: {"error": "full"}' in log.text
        assert "canary" not in log.text


def test_a_redirect_takes_no_rows_along(workshop: Workshop) -> None:
    with receiver() as other, receiver(answer(307, Location=other.url())) as server:
        assert "307" in run(workshop, "sink_api", Given({"url": server.url()}, [ROWS])).text
        assert not other.received


def test_a_connection_s_credentials(workshop: Workshop) -> None:
    with receiver() as server:
        vault = http_vault(server.url("/v1"), token="t0ken")
        run(workshop, "sink_api", Given({"url": "/events", "conn_id": "api"}, [ROWS], vault=vault))
        run(workshop, "notify", Given({"webhook_url": "/told", "conn_id": "api"}, [ROWS], vault=vault))
        assert [(request.path, request.headers["authorization"]) for request in server.received] == [
            ("/v1/events", "Bearer t0ken"),
            ("/v1/told", "Bearer t0ken"),
        ]


def test_no_rows_send_nothing_and_a_dry_run_neither(workshop: Workshop) -> None:
    with receiver() as server:
        run(workshop, "sink_api", Given({"url": server.url()}, ["SELECT 1 AS id WHERE false"]))
        found = workshop.dry_run("sink_api", Given({"url": server.url("/in?key=canary")}, [ROWS]))
        assert found["would_write"]["target"] == server.url("/in") + "?key=…"
        workshop.dry_run("notify", Given({"webhook_url": server.url()}, [ROWS]))
        assert not server.received


def test_a_notification_that_may_have_arrived_says_so(workshop: Workshop) -> None:
    def lost(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True

    with receiver(lost, lost, answer(200)) as server:
        log = run(workshop, "notify", Given({"webhook_url": server.url("/services/T0/canary")}, [ROWS]))
        assert log.text.count("Trying again") == 2
        assert len(set(keys(server))) == 1
        assert "canary" not in log.text
    with receiver(lost) as server:
        assert "It may have arrived all the same" in run(workshop, "notify", Given({"webhook_url": server.url()}, [ROWS])).text


# --- mail ---------------------------------------------------------------------------------------------------------


class Mailbox:
    def __init__(self) -> None:
        self.mails: list[Envelope] = []
        self.answers: list[str] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - the name that aiosmtpd calls
        if self.answers:
            return self.answers.pop(0)
        self.mails.append(envelope)
        return "250 OK"


@pytest.fixture
def mailbox(settings: Any) -> Iterator[Mailbox]:
    box = Mailbox()
    controller = Controller(box, hostname="127.0.0.1", port=free_port())
    controller.start()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", controller.port
    yield box
    controller.stop()


def test_a_mail_with_a_subject_on_one_line(workshop: Workshop, mailbox: Mailbox) -> None:
    config = {"notify_type": "email", "to": "ops@example.org, data@example.org", "message": "{{ rows }} rows\nof {{ pipeline }}"}
    mailbox.answers = ["451 later"]
    log = run(workshop, "notify", Given({**config, "subject": "Done\r\nBcc: evil@example.org {{ rows }}"}, [ROWS]))
    (found,) = mailbox.mails
    assert found.rcpt_tos == ["ops@example.org", "data@example.org"]
    content = found.content.decode() if isinstance(found.content, bytes) else str(found.content)
    assert "Subject: Done Bcc: evil@example.org 25\r\n" in content
    assert "\r\nBcc:" not in content
    assert "25 rows" in content
    assert "the mail server answered 451" in log.text
    assert "Told 2 addresses by email." in log.text


def test_mail_that_is_refused_or_cannot_be_sent(workshop: Workshop, mailbox: Mailbox, settings: Any) -> None:
    given = Given({"notify_type": "email", "to": ["ops@example.org"]}, [ROWS])
    mailbox.answers = ["550 no"]
    assert "raised: NodeError The email could not be sent: the mail server answered 550." in run(workshop, "notify", given).text
    settings.EMAIL_PORT = free_port()
    assert "raised: TransientNodeError The email could not be sent: the mail server could not be reached" in run(workshop, "notify", given).text
    settings.EMAIL_HOST = ""
    assert "BROKOLI_EMAIL_URL" in run(workshop, "notify", given).text


def test_a_mail_server_that_says_nothing_is_left_when_the_node_is_cancelled(workshop: Workshop, settings: Any) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(5)
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", listening.getsockname()[1]
        given = Given({"notify_type": "email", "to": ["ops@example.org"]}, [ROWS])
        with workshop.running("notify", given, Stop()) as running:
            connected, _ = listening.accept()
            start = time.monotonic()
            running.stop.stop(NodeCancelled("The run was cancelled."))
            running.thread.join(within(5))
            connected.close()
            assert time.monotonic() - start < within(1)
            assert [type(error) for error in running.errors] == [NodeCancelled]
