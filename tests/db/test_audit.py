"""The audit log: what an entry says, that it stands and falls with its change, and that nobody rewrites it."""

import datetime as dt
import io
import uuid
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.contrib.auth.models import AnonymousUser, Group, User
from django.core.handlers.wsgi import WSGIRequest
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.utils import timezone

from brokoli_site.common import audit
from brokoli_site.common.errors import Conflict
from brokoli_site.common.ids import earliest
from brokoli_site.common.local_mode import LocalAdministrator
from brokoli_site.common.secrets import Keyring
from pipelines import connections, definitions, variables, webhooks
from pipelines.models import Pipeline, Variable, WebhookToken
from runs import backfills, pools, triggers
from runs.models import Backfill, Pool, Run
from runs.states import Trigger
from system import audit_retention
from system.models import AppendOnly, AuditEntry
from tests.factories import accept_run, save_pipeline
from tests.people import signed_in

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
    of_api = request_of(user, authorization="Basic YWRhOmFkYQ==")
    assert audit.of_request(of_api).via == "session"  # pages read no such header
    of_api.auth = None  # type: ignore[attr-defined]  # as an API view leaves it
    assert audit.of_request(of_api).via == "basic"
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


@pytest.mark.django_db(transaction=True)
def test_a_change_whose_entry_cannot_be_written_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = save_pipeline("Orders")
    run = triggers.run(pipeline)
    variables.create("region", {"value": "EU"})
    pools.keep("warehouse", 4, "")
    rows = AuditEntry.objects.count()
    monkeypatch.setattr(audit, "writers", ["tests.db.test_audit.refuse"])

    for change in (
        lambda: definitions.patch(pipeline.id, {"enabled": False}),
        lambda: definitions.delete(pipeline.id),
        lambda: definitions.clone(pipeline.id),
        lambda: variables.change("region", {"value": "US"}, whole=False),
        lambda: variables.delete("region"),
        lambda: variables.create("other", {"value": "x"}),
        lambda: pools.keep("warehouse", 5, ""),
        lambda: pools.remove("warehouse"),
        lambda: triggers.run(pipeline),
        lambda: triggers.cancel(run.id),
        lambda: backfills.start(backfills.over_dates(pipeline, dt.date(2026, 1, 1), dt.date(2026, 1, 2))),
        lambda: webhooks.rotate(pipeline.id),
    ):
        # A cancel waits for its run to end, and so does a delete: whatever each of them hits first, nothing of it stays.
        with pytest.raises((CannotWrite, Conflict)):
            change()

    assert variables.represented(variables.find("region"))["value"] == "EU"
    assert Variable.objects.count() == 1
    assert list(Pool.objects.values_list("slots", flat=True)) == [4]
    assert list(Run.objects.values_list("id", "status")) == [(run.id, "pending")]
    assert [(found.version, found.enabled, found.deleted_at) for found in Pipeline.objects.all()] == [(1, True, None)]
    assert not Backfill.objects.exists()
    assert not WebhookToken.objects.exists()
    assert AuditEntry.objects.count() == rows


class CannotWrite(Exception):
    pass


def refuse(_: audit.Entry) -> None:
    raise CannotWrite


def refuse_the_second(entry: audit.Entry) -> None:
    if entry.name == "two":
        raise CannotWrite


# --- commands -----------------------------------------------------------------------------------------------------


def test_a_process_acts_as_the_command_that_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "grace")
    assert audit.of_process("./manage.py", "createsuperuser").actor == "command:createsuperuser (grace)"
    for service in ("serve", "runworker", "enqueue_due_runs"):
        assert audit.of_process("manage.py", service) == audit.SYSTEM
    assert audit.of_process("/usr/bin/pytest", "x") == audit.of_process("manage.py") == audit.SYSTEM


def test_commands_are_named(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.setenv("LOGNAME", "grace")
    old, new = Fernet.generate_key(), Fernet.generate_key()
    settings.KEYRING = Keyring((old,))
    connections.create("db", {"type": "postgres", "host": "a", "password": "canary-77"})
    settings.KEYRING = Keyring((new, old))
    call_command("rotate_secrets", stdout=io.StringIO())
    entry = AuditEntry.objects.get(action="secrets.rotated")
    assert (entry.actor, entry.via) == ("command:rotate_secrets (grace)", "command")
    assert {change["field"]: change["after"] for change in entry.diff["changes"]}["resealed"] == 1


def test_a_purge_is_recorded_with_the_first_run_that_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    run = accept_run(save_pipeline("Orders"))
    triggers.cancel(run.id)
    Run.objects.filter(id=run.id).update(finished_at=timezone.now() - dt.timedelta(days=40))
    call_command("purge_runs", days=30, verbosity=0)
    assert list(AuditEntry.objects.filter(area="runs").order_by("id").values_list("action", flat=True)) == ["runs.purge_started", "runs.purged"]
    call_command("purge_runs", days=30, verbosity=0)
    assert AuditEntry.objects.filter(area="runs").count() == 2


def test_users_that_commands_make_and_change_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    User.objects.create_user("by-no-command")
    with audit.command("createsuperuser"):
        user = User.objects.create_superuser("root", password="canary-1")
        user.set_password("canary-2")
        user.save()
    created, updated = AuditEntry.objects.filter(area="user").order_by("id")
    assert (created.action, created.name, updated.action) == ("user.created", "root", "user.updated")
    assert updated.diff["changes"] == [{"field": "password", "before": audit.SET, "after": audit.CHANGED}]
    assert user.password not in str([created.diff, updated.diff])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("written", [True, False])
def test_a_command_saves_a_user_with_the_entry_or_not_at_all(written: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    User.objects.create_user("ada", password="as it was before")
    password = "correct horse battery"

    def typed(prompt: str) -> str:
        assert not connection.in_atomic_block  # so that nobody waits for the person who types
        return password

    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", password)
    monkeypatch.setattr("getpass.getpass", typed)
    if not written:
        monkeypatch.setattr(audit, "writers", ["tests.db.test_audit.refuse"])
    for command in (
        partial(call_command, "createsuperuser", interactive=False, username="root", email="", verbosity=0),
        partial(call_command, "changepassword", "ada", stdout=io.StringIO()),
    ):
        with nullcontext() if written else pytest.raises(CannotWrite):
            command()
    assert User.objects.filter(username="root").exists() is written
    assert User.objects.get(username="ada").check_password(password) is written
    told = [(entry.action, entry.name, entry.actor.split()[0]) for entry in AuditEntry.objects.order_by("id")]
    expected = [("user.created", "root", "command:createsuperuser"), ("user.updated", "ada", "command:changepassword")]
    assert told == (expected if written else [])


# --- what makes runs by itself ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trigger", "audited"),
    [(Trigger.API, True), (Trigger.ADMIN, True), (Trigger.WEBHOOK, True), (Trigger.SCHEDULE, False), (Trigger.UPSTREAM, False)],
)
def test_runs_that_somebody_asked_for_are_recorded(trigger: Trigger, audited: bool) -> None:
    triggers.run(save_pipeline("Orders"), trigger=trigger)
    assert AuditEntry.objects.filter(action="run.created").exists() is audited


# --- retention ----------------------------------------------------------------------------------------------------


def old_entries(count: int, days: int) -> None:
    moment = timezone.now() - dt.timedelta(days=days)
    for number in range(count):
        AuditEntry.objects.create(id=uuid.UUID(int=earliest(moment).int + number), at=moment, action="x.y", area="x", kind="x", via="system")


def test_only_what_is_old_enough_goes_and_that_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_retention, "BATCH", 3)
    old_entries(7, days=366)
    old_entries(2, days=364)
    assert audit_retention.purge(365, seconds=10) == 7
    assert AuditEntry.objects.filter(area="x").count() == 2
    told = [change["after"] for entry in AuditEntry.objects.filter(action="audit.purged").order_by("id") for change in entry.diff["changes"][:1]]
    assert told == [3, 3, 1]
    assert audit_retention.purge(365, seconds=10) == 0
    assert AuditEntry.objects.filter(action="audit.purged").count() == 3


def test_nothing_goes_where_it_is_kept_for_ever(settings: Any) -> None:
    settings.AUDIT_DAYS = 0
    assert audit_retention.chore() is None
    settings.AUDIT_DAYS = 7
    old_entries(1, days=8)
    chore = audit_retention.chore()
    assert chore is not None
    chore.act()
    assert not AuditEntry.objects.filter(area="x").exists()


# --- the admin ----------------------------------------------------------------------------------------------------


def test_the_admin_shows_the_log_and_changes_nothing() -> None:
    person = signed_in("audit.view")
    User.objects.update(is_staff=True)
    entry = record(before={"description": "<script>alert(1)</script>"}, after={"description": "<b>"})
    audit.note("auth.login_failed", "user", "", "<img src=x>")
    page = person.get("/admin/system/auditentry/").content.decode()
    assert "pool.updated" in page
    assert "<img src=x>" not in page
    assert "&lt;img src=x&gt;" in page
    detail = person.get(f"/admin/system/auditentry/{entry.id}/change/").content.decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in detail
    assert "<script>alert(1)" not in detail
    for path in ("add/", f"{entry.id}/delete/"):
        assert person.post(f"/admin/system/auditentry/{path}", {"post": "yes"}).status_code == 403
    assert person.post(f"/admin/system/auditentry/{entry.id}/change/", {"actor": "nobody"}).status_code == 403
    person.post("/admin/system/auditentry/", {"action": "delete_selected", "_selected_action": [str(entry.id)], "post": "yes"})
    assert AuditEntry.objects.filter(id=entry.id, actor="system").exists()


def test_the_admin_filters_and_searches() -> None:
    person = signed_in("audit.view")
    User.objects.update(is_staff=True)
    record()
    audit.note("auth.login_failed", "user", "", "Grace Hopper")
    for query, shows in (("q=HOPPER", "auth.login_failed"), ("area=pool", "pool.updated"), ("age=hour&object_id__exact=warehouse", "pool.updated")):
        page = person.get(f"/admin/system/auditentry/?{query}").content.decode()
        rows = page.partition("<tbody>")[2]
        assert shows in rows, query
        assert rows.count('class="field-action"') == 1, query


def test_who_may_not_see_the_log_does_not_see_it_in_the_admin() -> None:
    stranger: Client = signed_in("runs.view")
    User.objects.update(is_staff=True)
    assert stranger.get("/admin/system/auditentry/").status_code == 403


def test_pools_and_users_that_the_admin_changes_are_recorded() -> None:
    api = Client(headers={"host": "localhost"})
    api.post("/admin/runs/pool/add/", {"name": "lake", "slots": "3", "description": ""})
    api.post("/admin/runs/pool/", {"action": "delete_selected", "_selected_action": ["lake"], "post": "yes"})
    assert list(AuditEntry.objects.filter(area="pool").order_by("id").values_list("action", "actor")) == [
        ("pool.created", "local"),
        ("pool.deleted", "local"),
    ]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("model", ["user", "group"])
def test_people_who_are_removed_together_are_recorded_each(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    administrator = User.objects.create_superuser("ada")
    rows = [(User if model == "user" else Group).objects.create(**{"username" if model == "user" else "name": name}) for name in ("one", "two")]
    person = Client(headers={"host": "localhost"})
    person.force_login(administrator)
    chosen = {"action": "delete_selected", "_selected_action": [row.pk for row in rows], "post": "yes"}
    with monkeypatch.context() as patch, pytest.raises(CannotWrite):
        patch.setattr(audit, "writers", [*audit.writers, "tests.db.test_audit.refuse_the_second"])
        person.post(f"/admin/auth/{model}/", chosen)
    assert type(rows[0]).objects.filter(pk__in=[row.pk for row in rows]).count() == 2 and not AuditEntry.objects.exists()
    person.post(f"/admin/auth/{model}/", chosen)
    gone = AuditEntry.objects.filter(action__endswith=".deleted").order_by("id")
    assert [(entry.actor, entry.name) for entry in gone] == [("ada", "one"), ("ada", "two")]
    assert not type(rows[0]).objects.filter(pk__in=[row.pk for row in rows]).exists()
