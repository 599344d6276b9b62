"""What the fuzzed application holds: pipelines, runs with outputs, connections and the like, and which of them a call is aimed at.

Calls that change or delete something are aimed at rows made for that, and made anew when they are used up: a fuzz that has emptied its
database would meet nothing but 404s from then on.
"""

import datetime as dt
import random
from collections.abc import Callable, Mapping
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone

from accounts import tokens
from accounts.models import ApiToken
from pipelines import connections, definitions, variables
from pipelines.models import Connection, Pipeline, Variable
from runs import backfills, triggers
from runs.models import Backfill, Pool, Run, SlaMiss
from runs.states import NodeStatus, RunStatus
from system import lineage
from tests import history

_NODE = {"id": "first", "type": "sql", "name": "First", "config": {"query": "SELECT 1 AS x"}}
_QUIET_DAY = dt.date(2024, 1, 15)
NODE_ID = "first"
TOKEN = "whk_of-a-pipeline-that-is-fuzzed"


class World:
    """Rows to aim at. `chance` says which, so that a seed means the same twice."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self._made = 0
        self._asset = ""

    def furnish(self) -> None:
        """Make what every call may look at."""
        pipeline = self.steady_pipeline()
        run = self.finished_run()
        history.lines(run, 5, node_id=NODE_ID)
        SlaMiss.objects.create(pipeline=pipeline, date=_QUIET_DAY, deadline=history.START, state="none", noted_at=timezone.now())
        self.connection()
        self.variable()
        self.pool()

    def parameters(self, path: str, method: str) -> dict[str, Any]:
        """Values for the parameters in the path of a call: of rows that there are, in a state in which the call can succeed."""
        found: dict[str, Any] = {}
        for name, provide in _PROVIDERS.items():
            if f"{{{name}}}" in path:
                found[name] = provide(self, path, method)
        return found

    # --- pipelines -----------------------------------------------------------------------------------------------------

    def steady_pipeline(self) -> Pipeline:
        """One that nobody has changed."""
        found = Pipeline.objects.live().filter(pipeline_id__startswith="steady", version=1, enabled=True).order_by("id").first()
        return found or self._pipeline("Steady")

    def spare_pipeline(self) -> Pipeline:
        """One to change or to delete, with no run that is active."""
        busy = Run.objects.active().values("pipeline_id")
        found = Pipeline.objects.live().filter(pipeline_id__startswith="spare").exclude(id__in=busy).order_by("id").first()
        return found or self._pipeline("Spare")

    def _pipeline(self, name: str) -> Pipeline:
        self._made += 1
        document = {
            "name": f"{name} {self._made}",
            "schedule": "30 6 * * *",
            "tags": ["fuzzed"],
            "nodes": [_NODE],
            "edges": [],
            "webhook_token": TOKEN,
        }
        return definitions.create(document).pipeline

    # --- runs ----------------------------------------------------------------------------------------------------------

    def finished_run(self) -> Run:
        """One that ended well and has an output."""
        found = Run.objects.filter(status=RunStatus.SUCCESS, outputs__node_id=NODE_ID).order_by("id").first()
        if found is None:
            found = history.saved_run(self.steady_pipeline(), at=timezone.now() - dt.timedelta(minutes=5))
            history.produce(found, "SELECT range AS n, 'a' || range AS name, NULL AS nothing FROM range(20)")
        return found

    def waiting_run(self) -> Run:
        found = Run.objects.filter(status=RunStatus.PENDING).order_by("id").first()
        return found or triggers.run(self.steady_pipeline())

    def failed_run(self) -> Run:
        """One that nobody resumes yet."""
        run = history.saved_run(self.steady_pipeline(), RunStatus.FAILED, at=timezone.now() - dt.timedelta(minutes=5), error="No such file.")
        history.node_run(run, status=NodeStatus.FAILED)
        return run

    def running_backfill(self) -> Backfill:
        found = Backfill.objects.filter(cancelled_at=None).order_by("id").last()
        return found or backfills.start(backfills.over_dates(self.steady_pipeline(), _QUIET_DAY, _QUIET_DAY))[1]

    def asset(self) -> str:
        """The id of a node in the lineage."""
        if not self._asset:
            self.steady_pipeline()
            self._asset = next(iter(lineage.whole().nodes))
        return self._asset

    # --- what is named -------------------------------------------------------------------------------------------------

    def connection(self) -> Connection:
        found = Connection.objects.order_by("conn_id").first()
        return found or connections.create("shop", {"type": "http", "host": "shop.example", "password": "s3cret-of-the-shop"})

    def variable(self) -> Variable:
        found = Variable.objects.order_by("key").first()
        return found or variables.create("region", {"value": "north"})

    def pool(self) -> Pool:
        return Pool.objects.get_or_create(name="narrow", defaults={"slots": 2})[0]

    def user(self) -> User:
        """One who calls nothing."""
        return User.objects.filter(username__startswith="spare").first() or User.objects.create_user(f"spare-{self.chance.getrandbits(32)}")

    def token(self) -> ApiToken:
        """One of each caller's, to end: whose it is only the name of the one user who calls tells."""
        owner = User.objects.filter(groups__isnull=False).first() or self.user()
        return tokens.issue(owner, ApiToken.Kind.NAMED, "spare", lasts=dt.timedelta(days=1))[0]


_CHANGES = ("PUT", "PATCH", "DELETE")


def _pipeline_for(world: World, path: str, method: str) -> str:
    changes = method in _CHANGES or path.endswith(("/rollback", "/webhook-token"))
    row = world.spare_pipeline() if changes else world.steady_pipeline()
    return world.chance.choice([str(row.id), row.pipeline_id])


def _run_for(world: World, path: str, method: str) -> str:
    if path.endswith("/cancel"):
        return str(world.waiting_run().id)
    return str((world.failed_run() if path.endswith("/resume") else world.finished_run()).id)


_PROVIDERS: Mapping[str, Callable[[World, str, str], Any]] = {
    "pipeline_id": _pipeline_for,
    "run_id": _run_for,
    "backfill_id": lambda world, path, method: str(world.running_backfill().id),
    "conn_id": lambda world, path, method: world.connection().conn_id,
    "key": lambda world, path, method: world.variable().key,
    "name": lambda world, path, method: world.pool().name,
    "node_id": lambda world, path, method: NODE_ID,
    "user_id": lambda world, path, method: str(world.user().pk),
    "token_id": lambda world, path, method: str(world.token().pk),
    "number": lambda world, path, method: 1,
}
