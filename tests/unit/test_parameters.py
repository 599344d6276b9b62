"""Declared parameters: what a declaration must be, what a value must be, and what nodes then see."""

from typing import Any

import pytest

from pipelines.parameters import InvalidParams, Parameter, check, read, resolved
from pipelines.problems import Problem
from pipelines.spec import InvalidPipeline
from pipelines.validation import check_structure, validate


def reading(parameters: Any, **keys: Any) -> tuple[tuple[Parameter, ...], list[tuple[str, str]]]:
    problems: list[Problem] = []
    found = read({"parameters": parameters, **keys}, problems)
    return found, [(problem.pointer, problem.message) for problem in problems]


def test_both_forms_of_the_declarations_mean_the_same() -> None:
    declaration = {"type": "integer", "required": True, "choices": [1, 2], "description": "How many."}
    expected = (Parameter("n", "integer", required=True, choices=(1, 2), description="How many."),)
    assert reading({"n": declaration}) == reading([{"name": "n", **declaration}]) == (expected, [])


@pytest.mark.parametrize(
    ("type_", "name", "nullable"),
    [
        ({"kind": "int64"}, "integer", False),
        ({"kind": "float64", "nullable": True}, "number", True),
        ({"kind": "string"}, "string", False),
        ({"kind": "boolean"}, "boolean", False),
        ({"kind": "date"}, "date", False),
        ({"kind": "timestamp"}, "datetime", False),
        ({"kind": "decimal"}, "decimal", False),
        ({"kind": "array", "items": {"kind": "string"}}, "array", False),
        ("datetime", "datetime", False),
    ],
)
def test_the_types_of_the_sdk(type_: Any, name: str, nullable: bool) -> None:
    ((found,), problems) = reading({"x": {"type": type_}})
    assert (found.type, found.nullable, problems) == (name, nullable, [])


def test_an_enum_has_its_values_as_choices() -> None:
    ((found,), _) = reading({"x": {"type": {"kind": "enum", "values": ["a", "b"]}, "default": "a"}})
    assert (found.type, found.choices, found.default) == ("string", ("a", "b"), "a")


@pytest.mark.parametrize(
    ("parameters", "pointer", "words"),
    [
        ("x", "/parameters", "must be an object of declarations by name, or a list of them, not a text"),
        ({f"p{n}": {} for n in range(101)}, "/parameters", "at most 100 parameters; this one declares 101"),
        ({"1a": {}}, "/parameters/1a", "begins with a letter or '_'"),
        ({"a/b": {}}, "/parameters/a~1b", "'a/b' does not"),
        ({"": {}}, "/parameters/", "'' does not"),
        ([{"type": "string"}], "/parameters/0", "'None' does not"),
        (["x"], "/parameters/0", "must be an object"),
        ([{"name": "x"}, {"name": "x"}], "/parameters/1", "'x' is declared twice"),
        ({"x": 5}, "/parameters/x", 'must be an object such as {"type": "string"}, not a number'),
        ({"x": {"type": "colour"}}, "/parameters/x/type", "must be one of string, integer, number, boolean, date, datetime"),
        ({"x": {"type": {"kind": 5}}}, "/parameters/x/type", "or an object with a 'kind'"),
        ({"x": {"type": "integer", "default": "5"}}, "/parameters/x/default", "the default must be a whole number (not in quotes)"),
        ({"x": {"type": "integer", "default": True}}, "/parameters/x/default", "the default must be a whole number"),
        ({"x": {"type": "date", "default": "2024-02-30"}}, "/parameters/x/default", "the default must be a date"),
        ({"x": {"choices": ["a", "b"], "default": "c"}}, "/parameters/x/default", "the default must be one of 'a', 'b'"),
        ({"x": {"type": "integer", "choices": [1, "2"]}}, "/parameters/x/choices/1", "each choice must be a whole number (not in quotes)"),
        ({"x": {"choices": []}}, "/parameters/x/choices", "a list of 1 to 1000 values"),
        ({"x": {"choices": [None]}}, "/parameters/x/choices/0", "each choice must be"),
        ({"x": {"type": {"kind": "enum", "values": "ab"}}}, "/parameters/x/type/values", "a list of 1 to 1000 values"),
        ({"x": {"required": "yes"}}, "/parameters/x/required", "'required' must be true or false"),
        ({"x": {"description": 5}}, "/parameters/x/description", "the description must be a text"),
    ],
)
def test_a_wrong_declaration_is_named(parameters: Any, pointer: str, words: str) -> None:
    _, problems = reading(parameters)
    assert [found for found, _ in problems] == [pointer]
    assert words in problems[0][1]


def test_every_wrong_declaration_is_named_at_once() -> None:
    _, problems = reading({"a": {"type": "x"}, "b": {"default": 5, "required": 1}, "c": {}})
    assert [pointer for pointer, _ in problems] == ["/parameters/a/type", "/parameters/b/default", "/parameters/b/required"]


def test_a_default_in_params_must_fit_too() -> None:
    _, problems = reading({"n": {"type": "integer"}}, params={"n": "5", "other": "free"})
    assert problems == [("/params/n", "'n' in 'params' must be a whole number (not in quotes), as it is declared.")]


DECLARED = (
    Parameter("text", "string", default="a"),
    Parameter("n", "integer", required=True),
    Parameter("rate", "number", default=0.5, nullable=True),
    Parameter("on", "boolean"),
    Parameter("day", "date"),
    Parameter("at", "datetime"),
    Parameter("size", "string", default="s", choices=("s", "m")),
    Parameter("raw", "decimal"),
    Parameter("level", "integer", default=1, choices=(1, 2)),
)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"text": 5}, "text"),
        ({"text": None}, "text"),
        ({"n": "5.0"}, "n"),
        ({"n": "05"}, "n"),
        ({"n": "+5"}, "n"),
        ({"n": "-0"}, "n"),
        ({"n": " 5"}, "n"),
        ({"n": "5\n"}, "n"),
        ({"n": "1_000"}, "n"),
        ({"n": "\u0665"}, "n"),
        ({"n": ""}, "n"),
        ({"n": "true"}, "n"),
        ({"n": "9223372036854775808"}, "n"),
        ({"n": 5.0}, "n"),
        ({"n": True}, "n"),
        ({"n": None}, "n"),
        ({"rate": "0.50"}, "rate"),
        ({"rate": ".5"}, "rate"),
        ({"rate": "1e3"}, "rate"),
        ({"rate": "inf"}, "rate"),
        ({"rate": "nan"}, "rate"),
        ({"rate": "\u0660.5"}, "rate"),
        ({"rate": False}, "rate"),
        ({"on": 1}, "on"),
        ({"on": "True"}, "on"),
        ({"on": "1"}, "on"),
        ({"on": ""}, "on"),
        ({"level": "3"}, "level"),
        ({"day": "2024-1-1"}, "day"),
        ({"day": "20240101"}, "day"),
        ({"day": "2024-01-01T00:00:00"}, "day"),
        ({"at": "2024-01-01"}, "at"),
        ({"at": "2024-01-01T25:00:00Z"}, "at"),
        ({"at": 5}, "at"),
        ({"size": "l"}, "size"),
        ({"nobody": 1}, "nobody"),
        ({"a/b": 1}, "a/b"),
    ],
)
def test_a_value_that_does_not_fit_is_named(given: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        check(DECLARED, {}, {"n": 1, **given})
    assert [(problem.pointer, problem.field) for problem in caught.value.problems] == [("/params/" + name.replace("/", "~1"), name)]


@pytest.mark.parametrize(
    "given",
    [
        {"rate": None},
        {"rate": 1},
        {"on": False},
        {"on": None},
        {"day": "2024-02-29"},
        {"at": "2024-01-01T06:00:00Z"},
        {"at": "2024-01-01 06:00+02:00"},
        {"size": "m"},
        {"raw": "1.50"},
        {"raw": 2},
        {"date": "2024-01-01"},
        {"legacy": "anything"},
    ],
)
def test_a_value_that_fits_is_kept_as_it_is(given: dict[str, Any]) -> None:
    found = check(DECLARED, {"legacy": 1}, {"n": 1, **given})
    assert {name: found[name] for name in given} == given


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ({"n": "5"}, {"n": 5}),
        ({"n": "-3"}, {"n": -3}),
        ({"n": "0"}, {"n": 0}),
        ({"n": "-9223372036854775808"}, {"n": -(2**63)}),
        ({"rate": "2.5"}, {"rate": 2.5}),
        ({"rate": "-2"}, {"rate": -2}),
        ({"on": "true"}, {"on": True}),
        ({"on": "false"}, {"on": False}),
        ({"level": "2"}, {"level": 2}),
        ({"text": "5", "raw": "5"}, {"text": "5", "raw": "5"}),
    ],
)
def test_a_text_that_is_written_as_the_declared_type_is_converted(given: dict[str, Any], seen: dict[str, Any]) -> None:
    found = check(DECLARED, {}, {"n": 1, **given})
    assert {name: (found[name], type(found[name])) for name in seen} == {name: (value, type(value)) for name, value in seen.items()}


def test_one_problem_a_name_and_all_of_them() -> None:
    with pytest.raises(InvalidParams) as caught:
        check(DECLARED, {}, {"text": 5, "nobody": 1})
    assert [problem.message for problem in caught.value.problems] == [
        "The parameter 'text' must be a text, not 5.",
        "The parameter 'nobody' is not declared. The pipeline declares text, n, rate, on, day, at, size, raw, level.",
        "The parameter 'n' must be given: a whole number.",
    ]


def test_a_pipeline_that_declares_nothing_takes_anything() -> None:
    assert check((), {"a": 1}, {"b": "2"}) == {"a": 1, "b": "2"}


def test_what_nodes_see() -> None:
    """Declared defaults, the document's `params` over them, what was given over both; what nobody gave is null."""
    found = resolved(DECLARED, {"text": "b", "size": "m", "free": 1}, {"size": "s", "n": 3})
    assert found == {"text": "b", "n": 3, "rate": 0.5, "on": None, "day": None, "at": None, "size": "s", "raw": None, "free": 1, "level": 1}


def test_a_default_in_params_stands_for_what_is_required() -> None:
    assert check((Parameter("n", "integer", required=True),), {"n": 5}, {}) == {"n": 5}


# --- what `validate` says ------------------------------------------------------------------------------------------


def document(query: str = "SELECT 1 AS x", **keys: Any) -> dict[str, Any]:
    return {"name": "P", "nodes": [{"id": "a", "type": "sql", "config": {"query": query}}], "edges": [], **keys}


def test_wrong_declarations_keep_a_pipeline_from_being_saved() -> None:
    with pytest.raises(InvalidPipeline) as caught:
        check_structure(document(parameters={"n": {"type": "integer", "default": "x"}}))
    assert [problem.pointer for problem in caught.value.problems] == ["/parameters/n/default"]


def test_a_type_that_nobody_checks_is_a_warning() -> None:
    report = validate(document(parameters={"n": {"type": {"kind": "record", "fields": []}, "sensitive": True}}))
    assert [problem.message for problem in report.warnings] == [
        "Parameter 'n': this server cannot check values of the type 'record'; any is accepted.",
        "'sensitive' of a parameter is kept, but this server does nothing with it.",
    ]
    assert report.valid


def test_a_schedule_that_cannot_give_what_is_required_is_a_warning() -> None:
    declared = {"n": {"type": "integer", "required": True}, "m": {"required": True}}
    report = validate(document(parameters=declared, params={"m": "x"}, schedule="0 6 * * *"))
    assert [problem.message for problem in report.warnings] == ["The schedule can give no value to 'n', which is required. Declare a default."]
    assert validate(document(parameters=declared)).warnings == ()


@pytest.mark.parametrize(
    ("keys", "severity"),
    [
        ({}, "warning"),
        ({"params": {"other": 1}}, "warning"),
        ({"params": {"x": 1}}, None),
        ({"parameters": {"x": {}}}, None),
        ({"parameters": {"other": {}}}, "error"),
        ({"parameters": {"other": {}}, "params": {"x": 1}}, None),
    ],
)
def test_a_reference_to_a_param_that_nobody_declares(keys: dict[str, Any], severity: str | None) -> None:
    report = validate(document("SELECT ${param.x} AS x, $${param.y} AS y" if not severity else "SELECT ${param.x} AS x, ${param.x} AS y", **keys))
    found = [
        (problem.severity, problem.node_id, problem.field) for problem in (*report.errors, *report.warnings) if "parameter 'x'" in problem.message
    ]
    assert found == ([(severity, "a", "query")] if severity else [])


def test_a_date_may_always_be_asked_for() -> None:
    report = validate(document("SELECT ${param.date} AS d", parameters={"x": {}}))
    assert (len(report.errors), len(report.warnings)) == (0, 1)
