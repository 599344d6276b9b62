"""What the sweep of routes meets: one row of everything, each secret a canary, and requests that would have an effect."""

import datetime as dt
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.test import Client
from django.test.client import ClientHandler
from django.utils import timezone
from model_bakery import baker

from accounts import tokens
from accounts.models import ApiToken
from pipelines import connections, definitions, variables
from pipelines.hooks import Hook, stored
from pipelines.models import Pipeline
from runs.models import Backfill, Notification, Pool, Run
from runs.states import RunStatus
from tests.factories import accept_run, register_worker
from tests.history import lines, produce, saved_run
from tests.security.canaries import Watch, canary, plain

HOST = "localhost:8080"
NOBODYS_ID = "019a9f3c-5b1e-7c42-9d0e-2f6a4c1b8e70"
PASSWORD, OPTION, VARIABLE, WEBHOOK = canary("password"), canary("option"), canary("variable"), plain("webhook")
_NODE = {"id": "first", "type": "sql", "name": "First", "config": {"query": "SELECT 1 AS x"}}


@dataclass(frozen=True)
class Sent:
    """What is sent where the method and the address are not enough. `names` are other rows than usual."""

    body: Any = None
    query: str = ""
    names: Mapping[str, str] = field(default_factory=dict)


NOTHING = Sent({})
# Requests that do what the call is for, so that a refusal is told from a mistake; of what takes long, a mistake that is found after the rights.
SENT: Mapping[str, Sent] = {
    "GET /api/lineage/columns": Sent(query="pipeline_id={pipeline_id}"),
    "GET /api/search": Sent(query="q=orders"),
    "POST /api/schedules/preview": Sent({"schedule": "0 6 * * *"}),
    "POST /api/auth/login": Sent({"username": "someone", "password": "wrong"}),
    "POST /api/auth/password": Sent({"current_password": "wrong", "new_password": "a long enough one"}),
    "POST /api/auth/setup": Sent({"username": "first", "password": "a long enough one"}),
    "POST /api/auth/tokens": Sent({"name": "new"}),
    "POST /api/users": Sent({"username": "new"}),
    "PATCH /api/users/{user_id}": Sent({"email": "someone@example.org"}),
    "POST /api/system/purge": Sent({"days": 3000}),
    "POST /api/pipelines/dry-run": Sent({"nodes": 5}),
    "POST /api/pipelines/{pipeline_id}/dry-run": Sent({"params": 5}),
    "POST /api/pipelines/{pipeline_id}/backfill": Sent({"start_date": "2024-01-01", "end_date": "2024-01-02"}),
    "POST /api/pipelines": Sent({"name": "New"}),
    "POST /api/pipelines/import": Sent({"name": "New"}),
    "PUT /api/pipelines/{pipeline_id}": Sent({"name": "Other"}),
    "PATCH /api/pipelines/{pipeline_id}": Sent({"name": "Other"}),
    "DELETE /api/pipelines/{pipeline_id}": Sent(names={"pipeline_id": "idle"}),
    "POST /api/pipelines/{pipeline_id}/rollback": Sent({"version": 1}),
    "PUT /api/pools/{name}": Sent({"slots": 3}),
    "POST /api/runs/{run_id}/cancel": Sent({}, names={"run_id": "waiting"}),
    "POST /api/runs/{run_id}/resume": Sent({}, names={"run_id": "failed"}),
    "POST /api/connections": Sent({"conn_id": "new", "type": "sqlite", "host": "new.db"}),
    "POST /api/connections/test": Sent({"type": "sqlite", "host": "nothing.db"}),
    "PUT /api/connections/{conn_id}": Sent({"type": "sqlite", "host": "nothing.db"}),
    "PATCH /api/connections/{conn_id}": Sent({"description": "Other"}),
    "POST /api/variables": Sent({"key": "new", "value": "x"}),
    "PUT /api/variables/{key}": Sent({"description": "Other"}),
    "PATCH /api/variables/{key}": Sent({"description": "Other"}),
}


@dataclass
class World:
    """`names` fills the places of addresses; `objects` has, by model, the key of a row that the admin shows."""

    names: dict[str, str]
    objects: dict[str, str]
    watch: Watch  # for the secrets that are in it

    def address(self, written: str, sent: Sent = NOTHING) -> str:
        """A real address for one of the table."""
        parts = written.split("/")
        names = self.names | {name: self.names[other] for name, other in sent.names.items()}
        if written.startswith("/admin/") and len(parts) > 4:
            names |= {"object_id": self.objects.get(f"{parts[2]}.{parts[3]}", NOBODYS_ID)}
        for name, value in names.items():
            written = written.replace(f"{{{name}}}", value)
        return f"{written}?{sent.query.format_map(names)}" if sent.query else written


@functools.cache
def _handler(*, strict: bool) -> ClientHandler:
    """One for all clients: each would set up all middleware anew."""
    return ClientHandler(enforce_csrf_checks=strict)


def client_of(user: User | None = None, *, strict: bool = False, **headers: str) -> Client:
    """Who answers 500 answers it to the test as well. `strict`: a session needs the token of its forms."""
    client = Client(headers={"host": HOST, **headers}, raise_request_exception=False)
    client.handler = _handler(strict=strict)
    if user is not None:
        client.force_login(user)
    return client


def make_user(name: str, *, roles: Iterable[str] = (), rights: Iterable[Permission] = (), is_staff: bool = True) -> User:
    """Without a password: nobody waits for one to be hashed."""
    user = User.objects.create(username=name, is_staff=is_staff, password="!")
    user.groups.set(Group.objects.filter(name__in=roles))
    user.user_permissions.set(rights)
    return user


def bearer(user: User, *scopes: str) -> Client:
    """A program with a token of the user that is narrowed to these rights."""
    _, text = tokens.issue(user, ApiToken.Kind.NAMED, "narrowed", lasts=dt.timedelta(days=1), scopes=list(scopes))
    return client_of(authorization=f"Bearer {text}")


def permissions() -> dict[str, Permission]:
    """Every right that there is, by its name: `pipelines.run`."""
    return {f"{found.content_type.app_label}.{found.codename}": found for found in Permission.objects.select_related("content_type")}


def build() -> World:
    """Rows of every kind, as the product makes them where it can."""
    document = {"name": "Orders", "pipeline_id": "orders", "schedule": "0 6 * * *", "nodes": [_NODE], "webhook_token": WEBHOOK}
    pipeline = definitions.create(document).pipeline
    idle = definitions.create({"name": "Idle", "pipeline_id": "idle", "nodes": [_NODE]}).pipeline
    connections.create("warehouse", {"type": "sqlite", "host": "nothing.db", "password": PASSWORD, "extra": {"token": OPTION}})
    variables.create("token", {"type": "secret", "value": VARIABLE})
    Pool.objects.create(name="warehouse", slots=2)
    register_worker(lease_seconds=600)
    done, failed = saved_run(pipeline), saved_run(pipeline, RunStatus.FAILED)
    produce(done, "SELECT 1 AS x")
    lines(done, 2)
    now = timezone.now()
    told = {"event": "on_failure", "kind": "webhook", "hook": stored(Hook("webhook", "https://example.org/")), "payload": {}}
    Notification.objects.create(pipeline=pipeline, run=done, next_attempt_at=now, created_at=now, **told)
    someone = make_user("someone", is_staff=False)
    token, text = tokens.issue(someone, ApiToken.Kind.NAMED, "another's", lasts=dt.timedelta(days=1))
    names = {
        "pipeline_id": str(pipeline.id),
        "idle": str(idle.id),
        "run_id": str(done.id),
        "failed": str(failed.id),
        "waiting": str(accept_run(pipeline).id),
        "backfill_id": str(Backfill.objects.create(pipeline=pipeline, start="2024-01-01", end="2024-01-02", created_at=now).id),
        "conn_id": "warehouse",
        "key": "token",
        "name": "warehouse",
        "node_id": "first",
        "number": "1",
        "app_label": "pipelines",
        "content_type_id": str(ContentType.objects.get_for_model(Pipeline).id),
        "object_id": str(pipeline.id),
        "id": str(someone.id),
        "user_id": str(someone.id),
        "token_id": str(token.id),
        "url": "nothing",
    }
    known = {"pipeline": pipeline, "run": Run.objects.get(id=done.id)}
    watch = Watch(PASSWORD, OPTION, VARIABLE, WEBHOOK, text.removeprefix(tokens.PREFIX), token.digest)
    return World(names, {model._meta.label_lower: _key(model, known) for model in admin.site._registry}, watch)


def _key(model: Any, known: Mapping[str, Any]) -> str:
    """Of a row of it that belongs to these."""
    fields = {name: row for name, row in known.items() if any(name == column.name for column in model._meta.fields)}
    row = model._default_manager.filter(**fields).first() or baker.make(model, **fields)
    return str(row.pk)
