"""The fuzz itself, on a few calls: it asks, is accepted, and sees what is wrong. All calls: `make fuzz`."""

import functools
import random
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from rest_framework.request import Request
from rest_framework.response import Response

from runs.api.pools import PoolsView
from tests.fuzz import callers, firing
from tests.fuzz.findings import Tally
from tests.fuzz.verdict import Verdict, accepted
from tests.fuzz.world import World

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]
FEW = r"^(GET|DELETE) /api/pools"


@pytest.fixture(autouse=True)
def own_connections() -> Iterator[None]:
    """Schemathesis asks in a thread of its own, whose connection to the database nobody else could close."""
    kept = connection.settings_dict["CONN_MAX_AGE"]
    connection.settings_dict["CONN_MAX_AGE"] = 0
    yield
    connection.settings_dict["CONN_MAX_AGE"] = kept


def fuzzed(caller: str, operations: str) -> Tally:
    World(random.Random(1)).furnish()
    (*_, tally) = firing.fire(callers.make(caller), firing.Aim(("coverage",), 1, operations), seed=1)
    return tally


def test_nothing_undocumented_is_answered_and_every_call_is_accepted() -> None:
    tally = fuzzed("admin", FEW)
    assert not tally.defects
    assert len(tally.statuses) == 2
    assert all(accepted(answered) for answered in tally.statuses.values()), tally.statuses


def failing(answer: Any) -> Any:
    @functools.wraps(PoolsView.get)  # with what the document says of it
    def get(self: PoolsView, request: Request) -> Response:
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    return get


@pytest.mark.parametrize(
    ("answer", "check"),
    [
        (Response([], status=418), "status_code_conformance"),
        (Response({"pools": []}), "response_schema_conformance"),
        (ValueError("nobody foresaw this"), "not_a_server_error"),
    ],
    ids=["status", "schema", "crash"],
)
def test_it_sees_what_is_wrong(monkeypatch: pytest.MonkeyPatch, answer: Any, check: str) -> None:
    monkeypatch.setattr(PoolsView, "get", failing(answer))
    tally = fuzzed("viewer", "^GET /api/pools$")
    assert check in {defect.check for defect in tally.defects.values()}, tally.defects
    verdict = Verdict("sqlite", seed=1)
    verdict.add("viewer", tally.plain())
    assert not verdict.good(whole=False)
    assert "SEED=1" in verdict.text(verbose=False, whole=False, seconds=1)
