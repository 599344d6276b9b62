"""What a stop in the middle of preparing a rule is: a stop, not a fault of the rule."""

import datetime as dt

import duckdb
import pytest

from pipelines.nodes.base import Column
from pipelines.nodes.quality_checks import Surroundings, compile_rule
from pipelines.nodes.quality_rules import Expression, ExpressionParams
from pipelines.nodes.quality_values import RuleFault

RULE = Expression(rule="expression", params=ExpressionParams(expression="id > 0"))


class Connection:
    """Fails as DuckDB does."""

    def __init__(self, error: duckdb.Error) -> None:
        self.error = error

    def execute(self, sql: str) -> None:
        raise self.error


def around(error: duckdb.Error) -> Surroundings:
    return Surroundings(Connection(error), "input", (Column("id", "BIGINT"),), (), None, dt.datetime.now(dt.UTC))  # type: ignore[arg-type]


def test_an_interrupt_is_passed_on() -> None:
    with pytest.raises(duckdb.InterruptException):
        compile_rule(RULE, 0, around(duckdb.InterruptException("INTERRUPT Error: Interrupted!")))


def test_what_the_planner_refuses_is_a_fault_of_the_rule() -> None:
    with pytest.raises(RuleFault, match=r"The expression must be true or false of each row: no such thing\.") as caught:
        compile_rule(RULE, 0, around(duckdb.BinderException("Binder Error: no such thing!\n\nLINE 1: SELECT")))
    assert caught.value.path == "params.expression"
