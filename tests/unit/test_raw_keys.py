"""Scripts are passed as they are: nobody replaces references in them, before the run or when it starts."""

from typing import Any

import pytest

from pipelines.nodes import registry
from pipelines.nodes.base import RunFacts
from pipelines.spec import from_document
from pipelines.validation import validate

pytestmark = pytest.mark.usefixtures("stub_types")
FACTS = RunFacts("run-1", "p", "P", {"x": "'; rm -rf ~ #"})


def document(config: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {"name": "P", "nodes": [{"id": "a", "type": "stub_script", "config": config}], "edges": [], **keys}


def test_a_script_keeps_its_references_and_other_keys_lose_theirs() -> None:
    given = {"script": "echo ${param.x} {{ ds }} $${y}", "options": {"env": ["${param.x}"]}, "arguments": {"x": "${param.x}", "l": ["<${run.id}>"]}}
    _, config = registry.prepare(from_document(document(given)).nodes[0], FACTS)
    assert config.model_dump() == {**given, "arguments": {"x": "'; rm -rf ~ #", "l": ["<run-1>"]}}


def test_nothing_is_said_about_references_in_a_script() -> None:
    report = validate(document({"script": "echo ${param.nobody} ${HOME} ${x", "options": {"a": "${param.nobody}"}}, parameters={"n": {}}))
    assert (report.errors, report.warnings) == ((), ())


def test_a_script_that_cannot_be_one_is_named_whatever_it_holds() -> None:
    """No value will be filled in there, so nothing has to wait for the run."""
    report = validate(document({"script": "${x}" * 30}))
    assert [(problem.field, problem.message) for problem in report.errors] == [("script", "Field 'script' must have at most 100 characters.")]
