"""The fuzz itself, on a few calls: it asks, is accepted, and sees what is wrong. All calls: `make fuzz`."""

import functools
import json
import random
from collections.abc import Iterator, Sequence
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


def fuzzed(caller: str, operations: str, phases: Sequence[str] = ("coverage",), **limits: Any) -> Tally:
    World(random.Random(1)).furnish()
    (*_, tally) = firing.fire(callers.make(caller), firing.Aim(phases, operations=operations, **limits), seed=1)
    return tally


def told(caller: str, tally: Tally) -> tuple[bool, str]:
    """Whether the verdict on all calls is good, and its words."""
    verdict = Verdict("sqlite", seed=1)
    verdict.add(caller, json.loads(json.dumps(tally.plain())))
    return verdict.good(whole=True), verdict.text(verbose=True, whole=True, seconds=1)


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
    good, words = told("viewer", tally)
    assert not good
    assert "SEED=1" in words


@pytest.mark.slow
def test_what_no_schema_says_is_mended_so_that_calls_are_accepted() -> None:
    tally = fuzzed("admin", "^POST /api/(pipelines|connections|variables|users)$", ["fuzzing"], examples=10)
    for operation, answered in tally.allowed.items():
        assert accepted(answered) >= 0.4 * answered.total(), (operation, answered, tally.refusals[operation])
    assert len(tally.allowed) == 4


def test_a_call_that_was_never_accepted_fails_the_fuzz_and_is_named() -> None:
    tally = Tally()
    tally.expect(["GET /api/runs", "GET /api/pools", "POST /api/auth/setup"])
    tally.answered("GET /api/runs", 404, allowed=True)
    tally.answered("GET /api/pools", 200, allowed=True)
    good, words = told("admin", tally)
    assert not good
    assert "NEVER ACCEPTED GET /api/runs: 1 of 404" in words
    assert "never accepted, as foreseen: POST /api/auth/setup" in words
    assert "1 of 3 calls accepted at least once" in words
    assert told("viewer", tally)[0], "others may not do everything"


def test_when_the_time_is_up_it_ends_and_says_what_was_not_reached_without_failing() -> None:
    tally = fuzzed("admin", "^(GET|DELETE) /api/p", seconds=0)
    assert tally.stopped
    good, words = told("admin", tally)
    assert good
    assert "The time was up" in words
    assert "never asked" in words
