"""Changes to one pipeline at the same moment: exactly one winner, and no version lost or made twice."""

import contextlib
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections

from brokoli_site.common.errors import BrokoliError, Conflict, PreconditionFailed
from pipelines import definitions, upstreams
from pipelines.models import Pipeline, PipelineDependency, PipelineVersion
from pipelines.spec import InvalidPipeline

pytestmark = pytest.mark.django_db(transaction=True)

RIVALS = 6


def together(act: Callable[[int], object]) -> list[str]:
    """What each of the rivals, let go at the same moment, came to: "done", or the code of its error."""
    barrier = threading.Barrier(RIVALS)

    def one(number: int) -> str:
        try:
            barrier.wait(10)
            act(number)
        except BrokoliError as error:
            return error.code
        finally:
            connections.close_all()
        return "done"

    with ThreadPoolExecutor(RIVALS) as pool:
        return list(pool.map(one, range(RIVALS)))


def test_of_changes_to_the_version_that_all_saw_one_wins() -> None:
    key = definitions.create({"name": "p"}).pipeline.id
    results = together(lambda number: definitions.patch(key, {"tags": [f"{number}"]}, seen={1}))
    assert sorted(results) == ["done", *[PreconditionFailed.code] * (RIVALS - 1)]
    assert definitions.find(key).document["tags"] == [f"{results.index('done')}"]
    assert PipelineVersion.objects.count() == 2


def test_changes_that_do_not_say_what_they_saw_are_all_applied() -> None:
    key = definitions.create({"name": "p"}).pipeline.id
    assert together(lambda number: definitions.patch(key, {"params": {f"{number}": number}})) == ["done"] * RIVALS
    found = definitions.find(key)
    assert found.document["params"] == {f"{number}": number for number in range(RIVALS)}
    assert sorted(PipelineVersion.objects.values_list("number", flat=True)) == list(range(1, RIVALS + 2))


def test_of_pipelines_with_one_slug_one_is_made() -> None:
    results = together(lambda number: definitions.create({"name": f"P{number}", "pipeline_id": "wanted"}))
    assert sorted(results) == sorted(["done", *[Conflict.code] * (RIVALS - 1)])
    assert Pipeline.objects.count() == PipelineVersion.objects.count() == 1


def test_pipelines_of_one_name_all_find_a_slug() -> None:
    assert together(lambda _: definitions.create({"name": "Same"})) == ["done"] * RIVALS
    assert Pipeline.objects.values("pipeline_id").distinct().count() == RIVALS


def test_a_pipeline_is_deleted_once() -> None:
    key = definitions.create({"name": "p"}).pipeline.id
    assert sorted(together(lambda _: definitions.delete(key))) == ["done", *["not_found"] * (RIVALS - 1)]


def test_of_saves_that_make_a_circle_together_one_is_refused() -> None:
    keys = [definitions.create({"name": f"P{number}", "pipeline_id": f"p{number}"}).pipeline.id for number in range(RIVALS)]
    results = together(lambda number: definitions.patch(keys[number], {"depends_on": [f"p{(number + 1) % RIVALS}"]}))
    assert sorted(results) == ["done"] * (RIVALS - 1) + [InvalidPipeline.code]
    assert PipelineDependency.objects.count() == RIVALS - 1


def test_two_saves_that_meet_with_their_own_rows_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has written its own row when it looks at the other's: only one may get so far at a time, or they would wait for each other."""
    keys = [definitions.create({"name": f"P{number}", "pipeline_id": f"p{number}"}).pipeline.id for number in range(RIVALS)]
    meeting, resolve = threading.Barrier(2), upstreams._resolve

    def resolve_together(*arguments: Any) -> Any:
        with contextlib.suppress(threading.BrokenBarrierError):
            meeting.wait(0.3)
        return resolve(*arguments)

    monkeypatch.setattr(upstreams, "_resolve", resolve_together)

    results = together(lambda number: definitions.patch(keys[number], {"depends_on": [f"p{1 - number}"]}) if number < 2 else None)

    assert sorted(results[:2]) == ["done", InvalidPipeline.code]


def test_an_upstream_that_is_deleted_while_somebody_begins_to_depend_on_it() -> None:
    """Either it stays and is waited for, or it goes and the save is refused."""
    for attempt in range(5):
        key = definitions.create({"name": "Up", "pipeline_id": f"up{attempt}"}).pipeline.id
        slug = f"up{attempt}"

        def act(number: int, key: uuid.UUID = key, slug: str = slug) -> None:
            if number == 0:
                definitions.delete(key)
            else:
                definitions.create({"name": f"Down {number}", "depends_on": [slug]})

        results = together(act)
        gone = Pipeline.objects.get(id=key).deleted_at is not None
        assert gone == (results[0] == "done")
        assert PipelineDependency.objects.filter(upstream=key).count() == results[1:].count("done")
        assert not (gone and PipelineDependency.objects.filter(upstream=key).exists()), results
