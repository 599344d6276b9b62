"""Whatever is written, a parser answers with a value or with its own error, at a place within the text, and soon.

Other parsers are asked the same where their examples stand: JSON in `tests/unit/test_json.py`, expressions in
`test_expression_injection.py`, documents in `test_validation.py`, rules in `nodes/test_quality_text.py`.
"""

import datetime as dt
import itertools
import os
import string
import time
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from brokoli_site import environment
from brokoli_site.common import yaml
from brokoli_site.common.errors import BadRequest, NodeError
from brokoli_site.common.problems import escaped, flattened
from pipelines import durations, parameters, references, schedules
from pipelines.expressions import legacy
from pipelines.expressions.errors import ExpressionError
from pipelines.expressions.source import Source
from pipelines.hooks import read as read_hooks
from pipelines.nodes.base import Column
from pipelines.nodes.expression_trees import Compiler
from pipelines.webhook_tokens import is_usable

pytestmark = pytest.mark.any_database
# How many examples is the profile's to say; that a machine has much else to do is no failure.
UNHURRIED = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
SOON = 2.0  # seconds that one text may take: a thousand times what it does take

# --- schedules ----------------------------------------------------------------------------------------------------------

FIELDS = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]
ZONES = st.sampled_from(["UTC", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kathmandu", "Pacific/Apia", "Europe/Dublin"])
MOMENTS = st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2090, 1, 1), timezones=st.just(dt.UTC))  # noqa: DTZ001 - hypothesis adds the zone


def field(least: int, most: int) -> st.SearchStrategy[str]:
    number = st.integers(least, most).map(str)
    span = st.tuples(st.integers(least, most), st.integers(least, most)).map(lambda ends: f"{min(ends)}-{max(ends)}")
    step = st.integers(1, most).map(lambda every: f"*/{every}")
    return st.just("*") | number | span | step | st.lists(number, min_size=1, max_size=4).map(",".join)


CRON = st.tuples(*(field(*ends) for ends in FIELDS)).map(" ".join) | st.sampled_from(
    ["@daily", "@hourly", "0 0 L * *", "0 0 LW * *", "0 9 * * MON#2"]
)
LIKE_CRON = st.text("0123456789*/-,LW#@ MONJAdaily", max_size=30)


@UNHURRIED
@given(CRON | LIKE_CRON | st.text(max_size=40))
def test_any_schedule_is_read_or_refused_with_a_sentence(text: str) -> None:
    began = time.monotonic()
    fault = schedules.schedule_fault(text)
    if fault:
        assert fault.endswith((".", "?"))
    else:
        assert schedules.in_words(text)
    assert time.monotonic() - began < SOON


@UNHURRIED
@given(CRON, ZONES, MOMENTS)
@example("30 2 * * *", "America/New_York", dt.datetime(2024, 3, 10, tzinfo=dt.UTC))
@example("0,30 2 * * *", "America/New_York", dt.datetime(2024, 3, 10, tzinfo=dt.UTC))
@example("15 */2 * * *", "Australia/Lord_Howe", dt.datetime(2024, 4, 6, tzinfo=dt.UTC))
def test_ticks_ascend_from_the_moment_and_each_is_the_next_of_the_one_before(schedule: str, zone: str, after: dt.datetime) -> None:
    if schedules.schedule_fault(schedule):
        return
    found = list(itertools.islice(schedules.ticks(schedule, zone, after), 5))
    assert all(earlier < later for earlier, later in itertools.pairwise([after, *found]))
    assert all(tick.tzinfo is dt.UTC for tick in found)
    assert [schedules.next_tick(schedule, zone, earlier) for earlier in found[:-1]] == found[1:]


@UNHURRIED
@given(st.text(max_size=80) | st.none() | st.integers() | st.lists(st.text(max_size=3)) | st.dictionaries(st.text(max_size=3), st.none()))
@example("../../etc/passwd")
@example("\ud800")
@example("a\0b")
@example("Europe/")
def test_any_zone_is_known_or_refused(zone: Any) -> None:
    known = isinstance(zone, str) and zone in schedules.zone_names()
    assert bool(schedules.zone_fault(zone)) is not known


# --- documents ----------------------------------------------------------------------------------------------------------

YAML = st.text(string.ascii_lowercase + "019:-?[]{}!&*#|>'\"%@`, \n\t~", max_size=60)


@UNHURRIED
@given(YAML.map(str.encode) | st.binary(max_size=60) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"a: &a [*a]")
@example(b"a: 1\na: 2")
@example(b"!!python/object/apply:os.system ['true']")
@example(b"? [a, b]\n: c")
@example(b"---\na\n---\nb")
@example(b"- " * 5000)
@example(b"[" * 100_000)
@example(b"{a: " * 50_000)
@example(b"a: " + b"9" * 5000)
def test_any_yaml_is_read_or_refused_and_what_is_read_can_be_written(body: bytes) -> None:
    began = time.monotonic()
    try:
        value = yaml.loads(body)
    except BadRequest as error:
        assert error.status == 400
        assert str(error).isprintable()
    else:
        assert yaml.loads(yaml.dumps(value).encode()) == value or not body.strip()
    assert time.monotonic() - began < SOON


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "url", "required", "choices", "op", "path", "args"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@UNHURRIED
@given(VALUES, st.sampled_from(["on_start", "on_success", "on_failure", "on_sla_miss", "nothing"]))
def test_any_hooks_are_read_or_named(value: Any, event: str) -> None:
    for hooks in (value, {event: value}):
        problems: list[Any] = []
        read_hooks({"hooks": hooks}, problems)
        assert all(problem.message and problem.pointer.startswith("/hooks") for problem in problems)


@UNHURRIED
@given(VALUES, VALUES)
def test_any_parameters_are_read_or_named(declared: Any, given_: Any) -> None:
    problems: list[Any] = []
    parameters.read({"parameters": declared, "params": given_}, problems)
    assert all(problem.message and problem.pointer for problem in problems)


# --- what stands in a config -----------------------------------------------------------------------------------------------


@UNHURRIED
@given(st.text("${}. abdrunpmsvct_\n", max_size=60) | st.text(max_size=60))
def test_references_lie_in_the_text_in_order(text: str) -> None:
    found = list(references.find(text))
    assert all(text[reference.start : reference.end] == reference.text for reference in found)
    assert all(earlier.end <= later.start for earlier, later in itertools.pairwise(found))
    try:
        resolved = references.References(params={"x": "${param.x}"}).substitute(text)
    except NodeError as error:
        assert error.message
    else:
        assert found or resolved == text


@UNHURRIED
@given(st.floats() | st.integers() | st.booleans() | st.text("0123456789.hmsnuµ -e", max_size=20) | st.text(max_size=120))
def test_any_duration_is_so_many_seconds_or_refused(value: Any) -> None:
    try:
        seconds = durations.seconds_of(value)
    except ValueError as error:
        assert str(error) == durations.RULE
    else:
        assert 0 <= seconds < 1e17


RULES = st.text("ab= <>!'\"in[](),USDE019+- andorisnull_&|", max_size=40)


@UNHURRIED
@given(RULES | st.text(max_size=40))
def test_older_rules_are_rewritten_or_left_and_never_break(text: str) -> None:
    began = time.monotonic()
    try:
        source = Source.of(text)
    except ExpressionError as error:
        assert error.message
        return
    found = legacy.rewrite_simple(source, {"a": "VARCHAR", "b": "INTEGER"})
    assert found is None or found.text
    assert legacy.rewrite(source).text
    assert time.monotonic() - began < SOON


TREES = st.recursive(
    st.fixed_dictionaries({"op": st.just("column"), "path": st.lists(st.text(max_size=4), max_size=2)})
    | st.fixed_dictionaries({"op": st.just("literal"), "value": st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)})
    | VALUES,
    lambda inner: st.fixed_dictionaries(
        {"op": st.sampled_from(["and", "or", "not", "eq", "lt", "add", "concat", "is_null", "in", "case", "cast", "nothing"])},
        optional={key: inner | st.lists(inner, max_size=3) for key in ("args", "left", "right", "value", "operand", "values", "when", "else")},
    ),
    max_leaves=6,
)


@UNHURRIED
@given(TREES)
def test_any_tree_is_an_expression_or_refused(tree: Any) -> None:
    for compile_as in (Compiler.value, Compiler.condition):
        compiler = Compiler((Column("a", "VARCHAR"), Column("b", "INTEGER")), may_refer=True)
        found = compile_as(compiler, tree, "expression")
        assert (found is None) == bool(compiler.problems)
        assert all(problem.message for problem in compiler.problems)


@UNHURRIED
@given(st.text(max_size=250) | st.none() | st.integers())
def test_a_usable_token_can_stand_in_a_header(token: Any) -> None:
    if is_usable(token):
        assert token.isascii()
        assert token.isprintable()
        assert " " not in token


# --- problems and settings -----------------------------------------------------------------------------------------------


@UNHURRIED
@given(st.lists(st.text(max_size=5), min_size=1, max_size=4))
def test_a_pointer_leads_back_to_its_place(keys: list[str]) -> None:
    detail: Any = ["wrong"]
    for key in reversed(keys):
        detail = {key: detail}
    if "non_field_errors" in keys:
        return
    ((pointer, messages),) = flattened(detail)
    assert messages == ["wrong"]
    assert pointer == "".join(f"/{escaped(key)}" for key in keys)
    assert [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]] == keys


NAMES = sorted(variable.name for variable in environment.VARIABLES)
SETTINGS = (
    st.text(max_size=40)
    | st.text("0123456789kKMGiB -+.,:/@%?=&#", max_size=30)
    | st.sampled_from(["-1", "0", "1e9", "true", "redis://", "postgres://", "[::1]", "~nobody"])
)


@UNHURRIED
@given(st.sampled_from(NAMES), SETTINGS)
@example("BROKOLI_ARTIFACTS", "\0")
@example("DATABASE_URL", "postgres://[")
@example("BROKOLI_EMAIL_URL", "smtp://[")
@example("OPENLINEAGE_URL", "http://[")
def test_any_setting_is_read_or_refused_by_its_name(tmp_path_factory: pytest.TempPathFactory, name: str, text: str) -> None:
    home = Path(os.fspath(tmp_path_factory.getbasetemp()))
    try:
        environment.load({"BROKOLI_HOME": str(home), name: text})
    except ImproperlyConfigured as error:
        assert name in str(error)
