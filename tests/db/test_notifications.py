"""The outbox: what is queued with a change, and what becomes of it."""

import datetime as dt
import hashlib
import hmac
import json
from typing import Any

import pytest
from django.core import mail
from django.utils import timezone

from brokoli_site.common.addresses import Allowed
from pipelines.hooks import Hook
from pipelines.models import Pipeline
from runs import delivery, messages, notifications, queue, transitions, triggers
from runs.delivery import Postman
from runs.messages import Verdict
from runs.models import LogEntry, NodeRun, Notification, Run
from runs.states import RunStatus
from tests.factories import accept_run, claim_one, end_run, make_pipeline, register_worker
from tests.receivers import Reaction, answer, receiver

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _loopback_is_allowed(settings: Any) -> None:
    settings.ALLOWED_NETWORKS = Allowed.read("127.0.0.1")


def hooked_pipeline(hooks: dict[str, Any]) -> Pipeline:
    pipeline = make_pipeline()
    document = pipeline.versions.get().document | {"hooks": hooks}
    pipeline.versions.update(document=document)
    return pipeline


def events() -> list[str]:
    return list(Notification.objects.order_by("id").values_list("event", flat=True))


def attempt(found: Notification | None = None) -> Notification:
    """Send what is first in the outbox, whenever it is due."""
    found = found or Notification.objects.order_by("id").get()
    Notification.objects.filter(id=found.id).update(next_attempt_at=timezone.now() - dt.timedelta(seconds=1))
    found.refresh_from_db()
    assert delivery.claim(found)
    delivery.settle(found, messages.send(found))
    found.refresh_from_db()
    return found


def told(run: Run) -> list[str]:
    return list(LogEntry.objects.filter(run=run, kind="log").order_by("seq").values_list("message", flat=True))


# --- what is queued -----------------------------------------------------------------------------------------------

URL = "https://hooks.example.org/x"
ALL = dict.fromkeys(("on_start", "on_success", "on_failure", "on_node_failure", "on_sla_miss"), URL)


def test_a_run_tells_of_its_start_once_and_of_its_end() -> None:
    run = accept_run(hooked_pipeline(ALL))
    first = register_worker()
    claim_one(first)
    queue.give_up(first.id, beat=first.beat, reason="it died", died=True, max_deaths=3)
    lease = claim_one(register_worker())
    queue.finish(lease, RunStatus.SUCCESS)

    assert events() == ["on_start", "on_success"]
    payload = Notification.objects.get(event="on_success").payload
    assert payload["event"] == "on_success"
    assert payload["pipeline"] == {"id": str(run.pipeline_id), "pipeline_id": run.pipeline.pipeline_id, "name": "Orders"}
    assert (payload["run"]["id"], payload["run"]["status"], payload["run"]["trigger"]) == (str(run.id), "success", "api")
    assert payload["run"]["finished_at"]
    assert payload["run"]["duration_ms"] >= 0


def test_a_run_that_fails_by_dead_workers_tells_too() -> None:
    run = accept_run(hooked_pipeline(ALL))
    worker = register_worker()
    claim_one(worker)
    queue.give_up(worker.id, beat=worker.beat, reason="it died", died=True, max_deaths=1)

    assert events() == ["on_start", "on_failure"]
    payload = Notification.objects.get(event="on_failure").payload
    run.refresh_from_db()
    assert payload["run"]["error"] == run.error != ""


def test_a_cancelled_run_tells_nothing() -> None:
    triggers.cancel(accept_run(hooked_pipeline(ALL)).id)
    assert events() == []


def test_a_node_that_failed_for_good_is_told_of() -> None:
    run = accept_run(hooked_pipeline({"on_node_failure": URL}))
    lease = claim_one(register_worker())
    node = NodeRun.objects.get(run=run, node_id="first")
    with transitions.fenced(lease) as held:
        transitions.start_node(node)
        transitions.fail_node(node, "no such table")
        transitions.note_failed_node(held, node)
    node_told = Notification.objects.get().payload["node"]
    assert node_told == {"id": "first", "name": "First", "type": "sql", "attempt": 1, "error": "no such table"}


def test_an_alert_of_a_deadline_falls_back_to_the_hooks_of_a_failure() -> None:
    pipeline = make_pipeline()
    facts: dict[str, Any] = {"date": dt.date(2024, 1, 15), "deadline": dt.datetime(2024, 1, 15, 6, tzinfo=dt.UTC), "state": "not started"}
    own, failure = Hook("webhook", "https://own.example"), Hook("webhook", "https://failure.example")

    notifications.sla_missed(pipeline, {"on_sla_miss": (own,), "on_failure": (failure,)}, **facts, run=None)
    notifications.sla_missed(pipeline, {"on_failure": (failure,)}, **facts, run=accept_run(pipeline))
    notifications.sla_missed(pipeline, {"on_success": (own,)}, **facts, run=None)

    rows = list(Notification.objects.order_by("id"))
    assert [row.hook["url"] for row in rows] == ["https://own.example", "https://failure.example"]
    assert rows[0].payload["sla"] == {"date": "2024-01-15", "deadline": "2024-01-15T06:00:00.000Z", "state": "not started"}
    assert (rows[0].run, rows[1].run) == (None, Run.objects.get())


def test_without_hooks_a_run_costs_no_query(django_assert_num_queries: Any) -> None:
    plain, hooked = accept_run(make_pipeline()), accept_run(hooked_pipeline({"on_success": URL}))
    assert plain.hooks is None
    worker = register_worker()
    leases = {lease.run_id: lease for lease in queue.claim(worker.id, 2)}
    with transitions.fenced(leases[hooked.id]) as run, django_assert_num_queries(0):
        notifications.note(run, "on_failure")
    with transitions.fenced(leases[plain.id]) as run, django_assert_num_queries(0):
        notifications.note(run, "on_success")


def test_what_is_rolled_back_was_never_told() -> None:
    run = accept_run(hooked_pipeline(ALL))
    lease = claim_one(register_worker())
    Notification.objects.all().delete()
    with pytest.raises(RuntimeError), transitions.fenced(lease) as held:
        notifications.note(held, "on_failure")
        raise RuntimeError
    assert events() == []
    assert run.id


def test_the_outbox_is_bounded_and_a_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "MOST_OF_A_PIPELINE", 3)
    monkeypatch.setattr(notifications, "MOST_IN_ALL", 4)
    pipeline, other = hooked_pipeline({"on_success": [URL, URL]}), hooked_pipeline({"on_success": [URL, URL]})
    for made in (pipeline, pipeline, other):
        assert end_run(accept_run(made), RunStatus.SUCCESS).status == "success"
    counts = [Notification.objects.filter(pipeline=made).count() for made in (pipeline, other)]
    assert counts == [3, 1]


def test_an_outbox_that_refuses_keeps_no_run_from_starting_or_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    run = accept_run(hooked_pipeline(ALL))

    def refuse(rows: list[Notification]) -> None:
        for row in rows:
            row.status = "unheard of"
        bulk_create(rows)

    bulk_create = Notification.objects.bulk_create
    monkeypatch.setattr(Notification.objects, "bulk_create", refuse)
    assert end_run(run, RunStatus.FAILED, "no luck").error == "no luck"
    assert events() == []
    assert LogEntry.objects.filter(run=run, kind="run.failed").count() == 1


# --- what becomes of it -------------------------------------------------------------------------------------------


def failed_run(hook: Any) -> Run:
    return end_run(accept_run(hooked_pipeline({"on_failure": hook}), params={"path": "orders"}), RunStatus.FAILED, "no such table")


def test_a_webhook_is_told_and_the_run_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKOLI_VAR_TOKEN", "canary-token")
    monkeypatch.setenv("BROKOLI_VAR_SECRET", "canary-secret")
    with receiver() as server:
        extra = {"headers": {"Authorization": "Bearer ${env.BROKOLI_VAR_TOKEN}"}, "secret": "${env.BROKOLI_VAR_SECRET}", "message": "{{ pipeline }}!"}
        run = failed_run({"url": server.url("/canary-path/${param.path}?token=${env.BROKOLI_VAR_TOKEN}"), "extra": extra})
        found = attempt()
        (request,) = server.received

    assert (found.status, found.attempts, found.error) == ("sent", 1, "")
    assert request.path == "/canary-path/orders?token=canary-token"
    assert request.json["message"] == "Orders!"
    assert request.json["run"]["error"] == "no such table"  # type: ignore[index]
    assert request.headers["idempotency-key"] == request.headers["x-brokoli-delivery"] == request.json["id"]
    assert request.headers["authorization"] == "Bearer canary-token"
    signed = request.headers["x-brokoli-timestamp"].encode() + b"." + request.body
    assert request.headers["x-brokoli-signature"] == "sha256=" + hmac.new(b"canary-secret", signed, hashlib.sha256).hexdigest()
    assert told(run) == [f"Told webhook 127.0.0.1:{server.port} of on_failure"]
    kept = json.dumps([*Notification.objects.values_list("hook", "payload", "error")], default=str) + "".join(told(run))
    assert "canary-token" not in kept
    assert "canary-secret" not in kept


def test_slack_is_told_in_its_words() -> None:
    with receiver() as server:
        pipeline = hooked_pipeline({"on_failure": {"type": "slack", "url": server.url(), "extra": {"channel": "#data"}}})
        end_run(accept_run(pipeline), RunStatus.FAILED, "<!everyone> & co")
        attempt()
    assert server.received[0].json == {"text": "Orders failed: &lt;!everyone&gt; &amp; co", "channel": "#data"}


def test_a_failure_that_may_pass_is_tried_again_with_the_same_key() -> None:
    with receiver(answer(500), answer(503, Retry_After="120"), answer(200)) as server:
        run = failed_run(server.url())
        first = attempt()
        assert (first.status, first.error) == ("pending", "it answered 500.")
        assert 1 < (first.next_attempt_at - timezone.now()).total_seconds() < 3
        second = attempt()
        assert 100 < (second.next_attempt_at - timezone.now()).total_seconds() < 150
        assert not told(run)
        third = attempt()
    assert (third.status, third.attempts) == ("sent", 3)
    assert len({request.headers["idempotency-key"] for request in server.received}) == 1
    assert len(told(run)) == 1


@pytest.mark.parametrize(
    ("reaction", "again"),
    [
        *[(answer(status), True) for status in (408, 425, 429, 500, 502, 503)],
        *[(answer(status), False) for status in (400, 401, 404, 410, 422)],
        (answer(302, Location="http://127.0.0.1/canary"), False),
        (lambda handler: handler.connection.shutdown(2), True),
    ],
)
def test_which_answers_are_tried_again(reaction: Reaction, again: bool) -> None:
    with receiver(reaction) as server:
        run = failed_run(server.url("/canary"))
        found = attempt()
    assert found.status == ("pending" if again else "failed")
    assert bool(told(run)) is not again
    assert "canary" not in found.error + "".join(told(run))
    assert len(server.received) == 1


def test_a_redirect_to_this_machine_is_not_followed() -> None:
    with receiver() as inner, receiver(answer(307, Location=inner.url())) as server:
        failed_run(server.url())
        assert attempt().status == "failed"
        assert not inner.received


def test_a_receiver_that_stalls_takes_no_more_than_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "SECONDS", 0.2)
    with receiver(lambda _: stall()) as server:

        def stall() -> None:
            server.ended.wait(30)

        failed_run(server.url())
        found = attempt()
    assert (found.status, found.error) == ("pending", "The server did not answer within 0.2 s.")


def test_a_private_address_is_refused_for_good(settings: Any) -> None:
    settings.ALLOWED_NETWORKS = Allowed()
    with receiver() as server:
        run = failed_run(server.url("/canary"))
        assert attempt().status == "failed"
        assert not server.received
    (line,) = told(run)
    assert line.startswith(f"Webhook 127.0.0.1:{server.port} could not be told of on_failure: its host is off the public internet;")


def test_it_is_given_up_after_eight_attempts_or_a_day() -> None:
    with receiver(answer(500)) as server:
        run = failed_run(server.url())
        assert [attempt().status for _ in range(8)] == ["pending"] * 7 + ["failed"]
        assert "it answered 500" in told(run)[0]
        old = failed_run(server.url())
        row = Notification.objects.get(run=old)
        Notification.objects.filter(id=row.id).update(created_at=timezone.now() - dt.timedelta(hours=25))
        assert attempt(row).status == "failed"


@pytest.mark.parametrize(
    ("hook", "says"),
    [
        ("https://x.example/${env.BROKOLI_VAR_NOT_SET}", "BROKOLI_VAR_NOT_SET"),
        ("https://x.example/${param.nothing}", "no parameter nothing"),
        ({"type": "email", "url": "a@example.org"}, "no mail server"),
        ({"url": "https://x.example", "extra": {"secret": "${env.BROKOLI_VAR_EMPTY}"}}, "secret is empty"),
        ({"url": "https://x.example", "extra": {"headers": {"X-A": "${env.BROKOLI_VAR_LINES}"}}}, "header X-A"),
        ("${env.BROKOLI_VAR_FILE}", "https://"),
    ],
)
def test_a_hook_that_cannot_be_used_fails_with_a_sentence(monkeypatch: pytest.MonkeyPatch, hook: Any, says: str) -> None:
    monkeypatch.setenv("BROKOLI_VAR_EMPTY", "")
    monkeypatch.setenv("BROKOLI_VAR_LINES", "1\r\nX-Canary: 2")
    monkeypatch.setenv("BROKOLI_VAR_FILE", "file:///etc/canary")
    run = failed_run(hook)
    found = attempt()
    assert found.status == "failed"
    assert says in found.error
    assert "anary" not in found.error + told(run)[0]


def test_mail_is_sent_with_a_subject_of_one_line(settings: Any) -> None:
    settings.EMAIL_HOST = "mail.example.org"
    settings.DEFAULT_FROM_EMAIL = "brokoli@example.org"
    pipeline = hooked_pipeline({"on_failure": {"type": "email", "url": "ops@example.org, ${param.who}"}})
    Pipeline.objects.filter(id=pipeline.id).update(name="Orders\r\nBcc: evil@example.org")
    run = end_run(accept_run(pipeline, params={"who": "data@example.org"}), RunStatus.FAILED, "lines\nof\nerror " + "x" * 300)
    assert attempt().status == "sent"
    (message,) = mail.outbox
    assert message.to == ["ops@example.org", "data@example.org"]
    assert message.subject.startswith("[Brokoli] Orders Bcc: evil@example.org failed: lines of error")
    assert len(message.subject) == 200
    head = message.message().as_string().split("\n\n")[0]
    assert not [line for line in head.splitlines() if line.lower().startswith("bcc")]
    assert f"Run id: {run.id}" in message.body
    assert told(run) == ["Told email ops@example.org, ${param.who} of on_failure"]


def test_a_param_cannot_add_lines_to_an_address(settings: Any) -> None:
    settings.EMAIL_HOST = "mail.example.org"
    pipeline = hooked_pipeline({"on_failure": {"type": "email", "url": "${param.who}"}})
    end_run(accept_run(pipeline, params={"who": "a@example.org\r\nBcc: b@example.org"}), RunStatus.FAILED, "x")
    assert attempt().status == "failed"
    assert not mail.outbox


# --- senders ------------------------------------------------------------------------------------------------------


def test_two_senders_take_a_notification_once() -> None:
    failed_run(URL)
    one, other = Notification.objects.get(), Notification.objects.get()
    assert delivery.claim(one)
    assert not delivery.claim(other)


def test_a_sender_that_took_too_long_writes_nothing() -> None:
    run = failed_run(URL)
    late = Notification.objects.get()
    assert delivery.claim(late)
    Notification.objects.update(next_attempt_at=timezone.now())
    again = Notification.objects.get()
    assert delivery.claim(again)
    delivery.settle(late, Verdict(reason="late"))
    assert (Notification.objects.get().status, told(run)) == ("pending", [])
    delivery.settle(again, Verdict(sent=True))
    assert Notification.objects.get().status == "sent"


def test_what_was_told_long_ago_goes_when_no_run_has_it() -> None:
    run = failed_run(URL)
    pipeline = run.pipeline
    facts: dict[str, Any] = {"date": dt.date(2024, 1, 15), "deadline": timezone.now(), "state": "x", "run": None}
    for _ in range(3):
        notifications.sla_missed(pipeline, {"on_sla_miss": (Hook("webhook", URL),)}, **facts)
    old = timezone.now() - dt.timedelta(days=31)
    Notification.objects.filter(run=run).update(status="sent", next_attempt_at=old)
    first, second, _ = Notification.objects.filter(run=None).order_by("id")
    Notification.objects.filter(id=first.id).update(status="failed", next_attempt_at=old)
    Notification.objects.filter(id=second.id).update(next_attempt_at=old)
    assert delivery.forget() == 1
    assert not Notification.objects.filter(id=first.id).exists()


def test_a_bug_in_sending_is_an_attempt_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be tried again for ever, each time at the cost of a sender."""
    run = failed_run(URL)
    monkeypatch.setattr("runs.delivery.send", lambda found: 1 / 0)
    for _ in range(delivery.MOST_ATTEMPTS):
        Notification.objects.update(next_attempt_at=timezone.now() - dt.timedelta(seconds=1))
        found = Notification.objects.get()
        assert delivery.claim(found)
        delivery.deliver(found)
    assert Notification.objects.get().status == "failed"
    assert "ZeroDivisionError" in told(run)[-1]


def test_a_worker_that_is_told_to_end_sends_nothing_more() -> None:
    failed_run(URL)
    postman = Postman()
    assert postman.busy
    postman.close(0)
    postman.look()
    assert postman._take() is None
