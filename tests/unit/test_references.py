"""References in texts: what they stand for, and what is refused. In SQL: `test_expression_injection.py`."""

import datetime as dt

import pytest

from pipelines.nodes.base import RunFacts
from pipelines.references import References, UnknownReference, find, problem_with

REFERENCES = References(
    run_id="run-1",
    params={"name": "Ada", "n": 3, "rate": 0.5, "on": True, "none": None, "with.dot": "d", "list": [1]},
    date=dt.date(2024, 2, 29),
    started_at=dt.datetime(2024, 3, 1, 6, 0, tzinfo=dt.timezone(dt.timedelta(hours=2))),
    interval_start=dt.datetime(2024, 2, 29, 6, 0, tzinfo=dt.timezone(dt.timedelta(hours=2))),
    interval_end=dt.datetime(2024, 3, 1, 6, 0, tzinfo=dt.timezone(dt.timedelta(hours=2))),
    environment={"BROKOLI_VAR_REGION": "eu", "BROKOLI_SECRET_KEY": "canary"},
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("${param.name}", "Ada"),
        ("${param.n}", 3),  # a text that is one reference keeps the type
        (" ${ param.n } ", 3),
        ("${param.rate}", 0.5),
        ("${param.on}", True),
        ("${param.none}", None),
        ("${param.with.dot}", "d"),
        ("${param.list}", "[1]"),
        ("n=${param.n}, on=${param.on}, none=${param.none}.", "n=3, on=true, none=."),
        ("${run.id}/${run.date}", "run-1/2024-02-29"),
        ("${run.started_at}", "2024-03-01T04:00:00+00:00"),
        ("${run.interval_start} to ${run.interval_end}", "2024-02-29T04:00:00+00:00 to 2024-03-01T04:00:00+00:00"),
        ("{{ data_interval_start }}/{{data_interval_end}}", "2024-02-29T04:00:00+00:00/2024-03-01T04:00:00+00:00"),
        ("${env.BROKOLI_VAR_REGION}", "eu"),
        ("{{ ds }}", "2024-02-29"),
        ("{{ds_nodash}}/{{ run_id }}", "20240229/run-1"),
        ("{{ ts }}", "2024-03-01T04:00:00+00:00"),
        ("{{ params.name }}!", "Ada!"),
        ("$${param.name}", "${param.name}"),
        ("$${param.name} ${param.name}", "${param.name} Ada"),
        ("{{pipeline}} done", "{{pipeline}} done"),  # a notification's own
        ("${", "${"),
        ("$5 {x}", "$5 {x}"),
    ],
)
def test_what_a_text_becomes(text: str, value: object) -> None:
    found = REFERENCES.substitute(text)
    assert found == value
    assert type(found) is type(value)


def test_nested_values_are_reached_and_the_given_ones_stay() -> None:
    given = {"a": ["${param.n}", {"b": "x${param.n}"}], "c": 1, "d": None}
    assert REFERENCES.substitute(given) == {"a": [3, {"b": "x3"}], "c": 1, "d": None}
    assert given["a"] == ["${param.n}", {"b": "x${param.n}"}]


def test_a_value_is_not_looked_at_again() -> None:
    assert References(params={"a": "${param.b}", "b": "no"}).substitute("<${param.a}>") == "<${param.b}>"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${param.nobody}", "${param.nobody}: the run has no parameter nobody"),
        ("${param.}", "is unknown"),
        ("${run.colour}", "a run has id, date"),
        ("${var.x}", "there is no variable 'x'"),
        ("${secret.x}", "there is no variable 'x'"),
        ("${env.BROKOLI_SECRET_KEY}", "only environment variables whose names start with BROKOLI_VAR_"),
        ("${env.BROKOLI_VAR_}", "only environment variables"),
        ("${env.BROKOLI_VAR_NONE}", "has no BROKOLI_VAR_NONE"),
        ("${foo.x}", "${foo.x} is unknown"),
        ("${}", "is unknown"),
        ("{{ params.nobody }}", "{{ params.nobody }}: the run has no parameter nobody"),
    ],
)
def test_an_unknown_name_is_named(text: str, words: str) -> None:
    with pytest.raises(UnknownReference) as caught:
        REFERENCES.substitute(f"before {text} after")
    assert words in caught.value.message
    assert "canary" not in caught.value.message


@pytest.mark.parametrize(
    "text", ["${param.anything}", "${var.anything}", "${secret.anything}", "${run.id}", "${env.BROKOLI_VAR_X}", "{{ ds }}", "$${nothing.at.all}"]
)
def test_what_a_run_may_resolve_is_no_problem_before_it(text: str) -> None:
    assert [problem_with(reference) for reference in find(text)] == [None]


@pytest.mark.parametrize("text", ["${var.}", "${secret.}", "${env.HOME}", "${x}", "${run.none}", "${param.}"])
def test_what_no_run_can_resolve_is_a_problem_before_it(text: str) -> None:
    assert [problem_with(reference) is not None for reference in find(text)] == [True]


def test_a_run_that_is_for_no_interval_says_so() -> None:
    with pytest.raises(UnknownReference, match="this run has none; only runs that a schedule or a backfill of its intervals made have one"):
        References(run_id="r").substitute("{{ data_interval_start }}")


def test_the_facts_of_a_run_reach_its_references() -> None:
    start, end = dt.datetime(2024, 1, 1, tzinfo=dt.UTC), dt.datetime(2024, 1, 2, tzinfo=dt.UTC)
    facts = RunFacts("r", "p", "P", {}, interval_start=start, interval_end=end)
    assert References.of(facts).substitute("${run.interval_start}/${run.interval_end}") == "2024-01-01T00:00:00+00:00/2024-01-02T00:00:00+00:00"


def test_a_run_without_a_logical_date_has_that_of_its_start() -> None:
    started = dt.datetime(2024, 3, 1, 1, 0, tzinfo=dt.timezone(dt.timedelta(hours=3)))  # still February in UTC
    facts = RunFacts("r", "p", "P", {}, started_at=started)
    assert References.of(facts).substitute("${run.date}") == "2024-02-29"
    assert References.of(RunFacts("r", "p", "P", {}, dt.date(2020, 1, 1), started)).substitute("{{ ds }}") == "2020-01-01"
