"""Hooks: what a param may do to an address, how many are told, and that no secret comes back."""

import datetime as dt
import smtplib
from typing import Any

import pytest
from django.core import mail
from django.test import Client
from django.utils import timezone

from brokoli_site.common.addresses import Allowed
from pipelines import hooks
from pipelines.problems import Problem
from runs import delivery, messages
from runs.models import LogEntry, Notification, Run
from runs.states import RunStatus
from tests.factories import accept_run, end_run, make_pipeline
from tests.receivers import answer, receiver

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]
CANARY = "c4nary-7d1f"


@pytest.fixture(autouse=True)
def _outside(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.ALLOWED_NETWORKS = Allowed.read("127.0.0.1")
    monkeypatch.setenv("BROKOLI_VAR_TOKEN", CANARY)


def tell(hook: Any, **params: Any) -> Notification:
    """A run with these params failed; its receiver was told once."""
    pipeline = make_pipeline()
    pipeline.versions.update(document=pipeline.versions.get().document | {"hooks": {"on_failure": hook}})
    end_run(accept_run(pipeline, params=params), RunStatus.FAILED)
    found = Notification.objects.get()
    Notification.objects.update(next_attempt_at=timezone.now() - dt.timedelta(seconds=1))
    found.refresh_from_db()
    assert delivery.claim(found)
    delivery.settle(found, messages.send(found))
    found.refresh_from_db()
    return found


# --- params in addresses: who may only run a pipeline does not choose where its secrets go --------------------------


@pytest.mark.parametrize("value", [".evil.example/", "@evil.example/", "/../../admin", "?x=1", "#x", "\\@evil.example", ":1@evil.example"])
def test_a_param_stays_where_it_stands_in_an_address(value: str) -> None:
    with receiver(answer(200)) as server:
        found = tell({"url": server.url("/hook/${param.team}/x")}, team=value)
        assert found.status == "sent"
        path = server.received[0].path
        assert path.startswith("/hook/")
        assert path.endswith("/x")
        assert path.count("/") == 3
        assert not {"?", "#"} & set(path)


@pytest.mark.parametrize("value", [".evil.example/", "@evil.example/", ":1@evil.example/", "/evil.example", "\\evil.example", "evil.example"])
def test_a_param_after_the_host_does_not_make_another_host(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the address is the environment's, saving cannot see that; the sender does."""
    monkeypatch.setenv("BROKOLI_VAR_BASE", "https://hooks.example.org")
    asked: list[str] = []

    def ask(host: str, *_: object, **__: object) -> list[Any]:
        asked.append(host)
        return []

    monkeypatch.setattr("socket.getaddrinfo", ask)
    found = tell({"url": "${env.BROKOLI_VAR_BASE}${param.path}", "extra": {"headers": {"Authorization": "${env.BROKOLI_VAR_TOKEN}"}}}, path=value)
    assert (found.status, asked) == ("failed", [])
    assert "the host" in found.error


@pytest.mark.parametrize(
    ("url", "is_good"),
    [
        ("https://hooks.example.org${param.x}", False),
        ("https://${param.x}.example.org/", False),
        ("https://hooks.${param.x}/", False),
        ("https://hooks.example.org:${param.x}/", False),
        ("https://hooks.example.org\\${param.x}/", False),
        ("https://${param.x}/hook", True),  # the author leaves the host to whoever runs it
        ("https://${param.x}", True),
        ("${param.x}/hook", True),
        ("https://hooks.example.org/${param.x}", True),
        ("https://hooks.example.org?${param.x}", True),
        ("https://${env.BROKOLI_VAR_HOST}/${param.x}", True),
    ],
)
def test_a_param_is_no_part_of_a_host(url: str, is_good: bool) -> None:
    problems: list[Problem] = []
    hooks.read({"hooks": {"on_failure": url}}, problems)
    assert bool(problems) is not is_good


def test_all_hooks_together_are_bounded() -> None:
    """Each run keeps a copy."""
    large = {"url": "https://hooks.example.org", "extra": {"headers": {f"X-{number}": "x" * 4_000 for number in range(20)}}}
    problems: list[Problem] = []
    assert hooks.read({"hooks": {"on_failure": large}}, problems) == {}
    assert "64,000" in problems[0].message
    assert hooks.read({"hooks": {"on_failure": [{"url": "https://hooks.example.org", "extra": {"message": "x" * 4_000}}] * 10}}, []) != {}


def test_params_do_not_make_more_receivers_than_a_hook_may_have(settings: Any) -> None:
    settings.EMAIL_HOST = "mail.example.org"
    many = ",".join(f"p{number}@example.org" for number in range(400))
    found = tell({"type": "email", "url": "${param.who}"}, who=many)
    assert (found.status, len(mail.outbox)) == ("failed", 0)
    assert "20" in found.error


# --- secrets ------------------------------------------------------------------------------------------------------

SECRETIVE = [
    {"url": "https://${env.BROKOLI_VAR_TOKEN}.hooks.invalid/x"},
    {"url": "http://${env.BROKOLI_VAR_TOKEN}/x"},
    {"url": "http://10.0.0.1/${env.BROKOLI_VAR_TOKEN}"},
    {"url": "${env.BROKOLI_VAR_TOKEN}"},
    {"url": "${env.BROKOLI_VAR_URL}"},
    {"url": "http://127.0.0.1:1/${env.BROKOLI_VAR_TOKEN}?t=${env.BROKOLI_VAR_TOKEN}", "extra": {"headers": {"X": "${env.BROKOLI_VAR_TOKEN}"}}},
    {"url": "http://127.0.0.1:1/", "extra": {"headers": {"X": "${env.BROKOLI_VAR_LINES}"}, "secret": "${env.BROKOLI_VAR_TOKEN}"}},
    {"type": "slack", "url": "http://${env.BROKOLI_VAR_TOKEN}:9/"},
    {"type": "email", "url": "${env.BROKOLI_VAR_TOKEN}"},
]


def content_of(response: Any) -> bytes:
    assert response.status_code == 200
    return b"".join(response.streaming_content) if response.streaming else bytes(response.content)


@pytest.mark.parametrize("hook", SECRETIVE, ids=lambda hook: hook["url"])
def test_a_secret_in_a_hook_never_comes_back(hook: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("BROKOLI_VAR_LINES", f"{CANARY}\r\nX-Evil: 1")
    monkeypatch.setenv("BROKOLI_VAR_URL", f"https://{CANARY}.internal.invalid:1/{CANARY}")
    found = tell(hook)
    api = Client(headers={"host": "localhost"})
    assert found.status != "sent"
    assert found.error
    run = Run.objects.get()
    paths = [f"/api/runs/{run.id}", *(f"/api/runs/{run.id}/{part}" for part in ("notifications", "logs", "logs/export"))]
    paths += [f"/api/pipelines/{run.pipeline_id}", f"/api/pipelines/{run.pipeline_id}/export", "/api/schema"]
    paths += ["/admin/runs/notification/", f"/admin/runs/notification/{found.id}/change/", f"/admin/runs/run/{run.id}/change/"]
    shown = {path: content_of(api.get(path, follow=True)) for path in paths}
    stored = str([*Notification.objects.values(), *LogEntry.objects.values(), *Run.objects.values()])
    assert [path for path, content in shown.items() if CANARY.encode() in content] == []
    assert CANARY not in stored
    assert CANARY not in caplog.text


def test_what_the_mail_server_says_is_not_repeated(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some repeat the credentials that they refuse."""
    settings.EMAIL_HOST, settings.EMAIL_HOST_PASSWORD = "mail.example.org", CANARY

    def refuse(self: object, **_: object) -> None:
        raise smtplib.SMTPAuthenticationError(535, f"bad password {CANARY}".encode())

    monkeypatch.setattr("django.core.mail.message.EmailMessage.send", refuse)
    found = tell({"type": "email", "url": "ops@example.org"})
    assert found.error == "the mail server answered 535."


@pytest.mark.parametrize("value", ["a\r\nBcc: evil@example.org", "a\nb", "evil@example.org\r\n"])
def test_a_param_breaks_out_of_no_header(value: str, settings: Any) -> None:
    settings.EMAIL_HOST = "mail.example.org"
    found = tell({"type": "email", "url": "ops@example.org,${param.who}"}, who=value)
    assert not [message for message in mail.outbox if set(message.to) - {"ops@example.org", "evil@example.org"}]
    assert not [message for message in mail.outbox if message.bcc or "\n" in message.subject]
    assert found.status in ("failed", "sent")


def test_a_param_breaks_out_of_no_header_of_http() -> None:
    with receiver(answer(200)) as server:
        found = tell({"url": server.url(), "extra": {"headers": {"X-Team": "${param.team}"}}}, team="a\r\nX-Evil: 1")
        assert (found.status, server.received) == ("failed", [])
