"""The audit log: what an entry says, that it stands and falls with its change, and that nobody rewrites it."""

from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.handlers.wsgi import WSGIRequest
from django.db import DatabaseError, connection, transaction
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from brokoli_site.common import audit
from brokoli_site.common.local_mode import LocalAdministrator
from system.models import AppendOnly, AuditEntry

pytestmark = pytest.mark.django_db


def record(**of: Any) -> AuditEntry:
    with transaction.atomic():
        audit.record("pool.updated", "pool", "warehouse", "warehouse", **of)
    return AuditEntry.objects.latest("id")


def test_an_entry_says_what_changed() -> None:
    entry = record(before={"slots": 4, "description": ""}, after={"slots": 8, "description": ""})
    assert (entry.action, entry.area, entry.kind, entry.object_id, entry.name) == ("pool.updated", "pool", "pool", "warehouse", "warehouse")
    assert entry.diff == {"changes": [{"field": "slots", "before": 4, "after": 8}], "left_out": 0}
    assert (entry.actor, entry.via) == ("system", "system")


def test_a_change_is_only_recorded_in_the_transaction_that_makes_it() -> None:
    with pytest.raises(audit.OutsideTransaction):
        audit.record("pool.updated", "pool", "warehouse")
    audit.note("auth.login_failed", "user", "", "somebody")
    assert AuditEntry.objects.get().name == "somebody"


def test_an_entry_falls_with_its_change() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        audit.record("pool.updated", "pool", "warehouse")
        raise ZeroDivisionError
    assert not AuditEntry.objects.exists()


def request_of(user: Any, **headers: str) -> WSGIRequest:
    request = RequestFactory().get("/", REMOTE_ADDR="198.51.100.7", headers=headers)
    request.user, request.request_id = user, "abc"  # type: ignore[attr-defined]
    return request


def test_who_a_request_is_from() -> None:
    user = User.objects.create_user("ada")
    by_session = audit.of_request(request_of(user))
    assert (by_session.actor, by_session.user_id, by_session.via) == ("ada", str(user.pk), "session")
    assert (by_session.address, by_session.request_id) == ("198.51.100.7", "abc")
    assert audit.of_request(request_of(user, authorization="Basic YWRhOmFkYQ==")).via == "basic"
    assert audit.of_request(request_of(LocalAdministrator())).actor == "local"
    assert audit.of_request(request_of(AnonymousUser())).via == "anonymous"


def test_the_user_of_a_request_is_asked_for_when_something_is_written() -> None:
    user = User.objects.create_user("ada")

    def answer(request: HttpRequest) -> HttpResponse:
        request.user = user  # as an API view does, long after the middleware
        record()
        return HttpResponse()

    audit.AuditMiddleware(answer)(request_of(AnonymousUser()))
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.user_id) == ("ada", str(user.pk))
    assert audit.current() == audit.SYSTEM


def test_who_logs_in_is_named_before_the_request_knows() -> None:
    user = User.objects.create_user("ada")
    with audit.requested(request_of(AnonymousUser())):
        assert record(by=user).actor == "ada"


def test_what_a_webhook_does_in_a_request_keeps_its_address() -> None:
    with audit.requested(request_of(AnonymousUser())), audit.acting("webhook", "webhook"):
        entry = record()
    assert (entry.actor, entry.via, entry.address, entry.request_id) == ("webhook", "webhook", "198.51.100.7", "abc")


def test_a_command_is_named_with_the_account_that_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "grace")
    with audit.command("purge_runs"):
        entry = record()
    assert (entry.actor, entry.via) == ("command:purge_runs (grace)", "command")


def test_names_of_any_length_and_with_nul_are_stored() -> None:
    audit.note("auth.login_failed", "user", "", "a\0" + "b" * 1000)
    assert AuditEntry.objects.get().name.startswith("a\N{REPLACEMENT CHARACTER}bbb")


def test_nothing_of_ours_rewrites_an_entry() -> None:
    entry = record()
    entry.actor = "nobody"
    for attempt in (
        entry.save,
        entry.delete,
        AuditEntry.objects.all().delete,
        lambda: AuditEntry.objects.update(actor="nobody"),
        lambda: AuditEntry.objects.bulk_update([entry], ["actor"]),
    ):
        with pytest.raises(AppendOnly):
            attempt()
    assert AuditEntry.objects.get().actor == "system"


def test_the_database_refuses_to_rewrite_an_entry() -> None:
    record()
    with pytest.raises(DatabaseError, match="only ever added to"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE system_auditentry SET actor = 'nobody'")
    assert AuditEntry.objects.get().actor == "system"
