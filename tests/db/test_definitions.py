"""Use cases on pipelines: versions, races, slugs, and what is given back."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase
from pytest_django import DjangoAssertNumQueries

from brokoli_site.common import yaml
from brokoli_site.common.errors import Conflict, NotFound, PreconditionFailed
from brokoli_site.common.local_mode import LocalAdministrator
from pipelines import definitions, documents
from pipelines.guards import deletion_guards
from pipelines.models import Pipeline, PipelineVersion
from pipelines.spec import InvalidPipeline

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("stub_types")]


def document(**keys: Any) -> dict[str, Any]:
    nodes = [{"id": "rows", "type": "stub_rows", "config": {"columns": ["id"]}}, {"id": "pick", "type": "stub_pick", "config": {}}]
    return {"name": "Daily orders", "nodes": nodes, "edges": [{"from": "rows", "to": "pick"}], "interface": {"outputs": [1]}, **keys}


def test_create_keeps_the_document_and_copies_what_listings_show() -> None:
    user = User.objects.create_user("ann")
    made = definitions.create(document(tags=["a"], schedule="0 6 * * *", enabled=False, version=7, id="x"), user=user)
    row = Pipeline.objects.get()
    assert (row.pipeline_id, row.name, row.enabled, row.schedule, row.schedule_timezone, row.tags, row.version, row.node_count) == (
        "daily-orders",
        "Daily orders",
        False,
        "0 6 * * *",
        "UTC",
        ["a"],
        1,
        2,
    )
    found = definitions.find(made.pipeline.id)
    assert found.document["interface"] == {"outputs": [1]}
    assert not {"id", "version", "pipeline_id"} & found.document.keys()
    assert found.version.created_by == user


def test_an_invalid_structure_saves_nothing() -> None:
    with pytest.raises(InvalidPipeline):
        definitions.create(document(schedule="x"))
    made = definitions.create(document())
    with pytest.raises(InvalidPipeline):
        definitions.replace(made.pipeline.id, document(edges=[{"from": "a", "to": "b"}]))
    assert (Pipeline.objects.count(), PipelineVersion.objects.count()) == (1, 1)


def test_slugs_are_made_unique_and_explicit_ones_are_refused_when_taken() -> None:
    slugs = [definitions.create(document()).pipeline.pipeline_id for _ in range(11)]
    assert slugs[:9] == ["daily-orders", *(f"daily-orders-{number}" for number in range(2, 10))]
    assert len(set(slugs)) == 11
    assert definitions.create(document(name="日本")).pipeline.pipeline_id == "pipeline"
    assert definitions.create(document(name="日本", pipeline_id="")).pipeline.pipeline_id == "pipeline-2"
    assert len(definitions.create(document(name="x" * 200)).pipeline.pipeline_id) <= 100
    with pytest.raises(Conflict, match="'daily-orders' already"):
        definitions.create(document(pipeline_id="daily-orders"))


def test_the_slug_of_a_deleted_pipeline_is_free_again() -> None:
    first = definitions.create(document(pipeline_id="p"))
    definitions.delete(first.pipeline.id)
    assert definitions.create(document(pipeline_id="p")).pipeline.id != first.pipeline.id
    for use in (definitions.find, definitions.delete, definitions.clone):
        with pytest.raises(NotFound):
            use(first.pipeline.id)


def test_replace_and_patch_make_versions() -> None:
    made = definitions.create(document())
    assert definitions.replace(made.pipeline.id, document(name="Other", interface=None)).version.number == 2
    patched = definitions.patch(made.pipeline.id, {"enabled": False, "x": {"y": 1}, "pipeline_id": "new-slug"})
    assert (patched.version.number, patched.pipeline.pipeline_id, patched.document["name"], patched.document["x"]) == (
        3,
        "new-slug",
        "Other",
        {"y": 1},
    )
    row = Pipeline.objects.get()
    assert (row.version, row.name, row.enabled, row.pipeline_id) == (3, "Other", False, "new-slug")
    assert [version.document["name"] for version in row.versions.order_by("number")] == ["Daily orders", "Other", "Other"]
    assert definitions.patch(made.pipeline.id, {"x": None, "description": None}).document.get("x", "gone") == "gone"
    other = definitions.create(document())
    with pytest.raises(Conflict, match="'new-slug' already"):
        definitions.patch(other.pipeline.id, {"pipeline_id": "new-slug"})


def test_versions_cannot_be_changed() -> None:
    version = definitions.create(document()).version
    version.comment = "x"
    with pytest.raises(TypeError, match="immutable"):
        version.save()


def _rival(act: Callable[[], object]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A change whose rival acts once, after the read and before the write."""
    pending = [act]

    def make(current: dict[str, Any]) -> dict[str, Any]:
        if pending:
            pending.pop()()
        return {**current, "description": current["description"] + "!"}

    return make


def test_a_lost_race_is_412_for_who_said_what_they_saw_and_applied_on_top_for_others() -> None:
    made = definitions.create(document())
    key = made.pipeline.id
    with pytest.raises(PreconditionFailed):
        definitions.change(key, _rival(lambda: definitions.patch(key, {"tags": ["rival"]})), seen={1})
    assert Pipeline.objects.get().version == 2
    with pytest.raises(PreconditionFailed, match="at version 2 now"):
        definitions.replace(key, document(), seen={1, 7})
    changed = definitions.change(key, _rival(lambda: definitions.patch(key, {"tags": ["second rival"]})))
    assert (changed.version.number, changed.document["tags"], changed.document["description"]) == (4, ["second rival"], "!")
    assert [version.number for version in PipelineVersion.objects.order_by("number")] == [1, 2, 3, 4]


def test_a_change_that_loses_for_ever_gives_up() -> None:
    key = definitions.create(document()).pipeline.id

    def make(current: dict[str, Any]) -> dict[str, Any]:
        definitions.patch(key, {"tags": ["rival"]})
        return current

    with pytest.raises(Conflict, match="all the time"):
        definitions.change(key, make)


def test_a_race_with_a_deletion_is_lost() -> None:
    key = definitions.create(document()).pipeline.id
    with pytest.raises(NotFound):
        definitions.change(key, _rival(lambda: definitions.delete(key)))
    assert PipelineVersion.objects.count() == 1


def test_rollback_brings_the_definition_back_and_leaves_the_switch() -> None:
    key = definitions.create(document()).pipeline.id
    definitions.replace(key, document(name="Second", enabled=False))
    back = definitions.rollback(key, 1)
    assert (back.version.number, back.document["name"], back.document["enabled"], back.version.comment) == (
        3,
        "Daily orders",
        False,
        "Back to version 1",
    )
    assert back.document == definitions.find_version(key, 1).document | {"enabled": False}
    with pytest.raises(NotFound, match="no version 9"):
        definitions.rollback(key, 9)
    with pytest.raises(PreconditionFailed):
        definitions.rollback(key, 1, seen={1})


def test_clone() -> None:
    original = definitions.create(document(schedule="0 6 * * *"), user=LocalAdministrator())
    copy = definitions.clone(original.pipeline.id)
    assert (copy.pipeline.pipeline_id, copy.document["name"], copy.document["enabled"]) == ("daily-orders-copy", "Daily orders (copy)", False)
    assert {**copy.document, "name": 1, "enabled": 1} == {**original.document, "name": 1, "enabled": 1}
    assert definitions.clone(original.pipeline.id, name="Mine").document["name"] == "Mine"
    long = definitions.create(document(name="x" * 200))
    assert len(definitions.clone(long.pipeline.id).document["name"]) == 200


def test_a_deletion_can_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    key = definitions.create(document()).pipeline.id
    seen: list[uuid.UUID] = []

    def guard(pipeline_id: uuid.UUID) -> None:
        seen.append(pipeline_id)
        raise Conflict("busy")

    monkeypatch.setattr(definitions, "deletion_guards", [*deletion_guards, guard])
    with pytest.raises(Conflict, match="busy"):
        definitions.delete(key)
    assert seen == [key]
    assert definitions.find(key)
    monkeypatch.undo()
    with pytest.raises(PreconditionFailed):
        definitions.delete(key, seen={2})
    definitions.delete(key, seen={1})
    assert PipelineVersion.objects.count() == 1


def test_import_when_the_slug_is_taken() -> None:
    first, is_new = definitions.import_document(document(pipeline_id="p"))
    assert is_new
    with pytest.raises(Conflict):
        definitions.import_document(document(pipeline_id="p"))
    renamed, is_new = definitions.import_document(document(pipeline_id="p"), on_taken="rename")
    assert (renamed.pipeline.pipeline_id, is_new) == ("p-2", True)
    replaced, is_new = definitions.import_document(document(pipeline_id="p", name="New"), on_taken="replace")
    assert (replaced.pipeline.id, replaced.version.number, replaced.document["name"], is_new) == (first.pipeline.id, 2, "New", False)


def test_queries_do_not_grow(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    key = definitions.create(document()).pipeline.id
    for number in range(5):
        definitions.patch(key, {"tags": [f"{number}"]})
    with django_assert_num_queries(1):
        definitions.find(key)


TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=12)
# Whole numbers where a float has no fraction: PostgreSQL keeps the number, not how it was written.
NUMBERS = st.integers(-(10**20), 10**20) | st.floats(-1e15, 1e15).map(lambda number: round(number, 3) or 0.0)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=12
)
KNOWN = documents.SERVER_KEYS | documents.DEFAULTS.keys() | documents.OPTIONAL_KEYS
READ_OF_NODES = documents.NODE_SETTINGS | {"columns", "count", "n", "retries"}


@pytest.mark.usefixtures("stub_types")
class RoundTrip(TestCase):
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.dictionaries(TEXT.filter(lambda key: key not in KNOWN), JSON, max_size=3),
        st.dictionaries(TEXT.filter(lambda key: key not in READ_OF_NODES), JSON, max_size=3),
        TEXT,
    )
    def test_export_and_import_give_the_same_document(self, extra: dict[str, Any], config: dict[str, Any], description: str) -> None:
        node = {"id": "rows", "type": "stub_rows", "config": config, "note": extra}
        made = definitions.create({"name": "Round trip", "description": description, "nodes": [node], **extra})
        text = definitions.export(definitions.find(made.pipeline.id))
        definitions.delete(made.pipeline.id)
        again, _ = definitions.import_document(yaml.loads(text.encode()))
        found = definitions.find(again.pipeline.id)
        assert found.document == made.version.document
        assert found.pipeline.pipeline_id == made.pipeline.pipeline_id
        definitions.delete(again.pipeline.id)
