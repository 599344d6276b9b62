"""`condition`."""

from typing import Any

from tests.contracts.case import Cases, Failing, Given, Invalid, Valid
from tests.contracts.workshop import Outcome, Workshop

ORDERS = "SELECT * FROM (VALUES (1, 10.5, 'paid'), (2, -3, NULL), (3, 99, 'open')) t(id, amount, status)"
NOTHING = "SELECT 1 AS id, 2.5 AS amount, 'x' AS status WHERE false"
MANY = "SELECT i AS id FROM range(200_000) t(i)"


def _typical(workshop: Workshop, table: str) -> Given:
    return Given({"expression": "row_count >= 0"}, [table])


def _slow(workshop: Workshop) -> Given:
    return Given({"expression": "sum(list_sum(list_transform(range(3000), lambda x: x * id))) >= 0"}, [MANY])


def decides(expression: str, values: str, of: str, *, decision: bool, **more: Any) -> Valid:
    """The data passes through, and the log says what was decided and by which values."""

    def after(outcome: Outcome, _workshop: Workshop) -> None:
        assert outcome.result.branch is decision
        assert outcome.result.reuses == "node1", "the data was copied"
        shown = f" ({values})" if values else ""
        assert outcome.log.lines == [("info", f"{expression} → {str(decision).lower()}{shown}")]

    return Valid({"expression": expression}, [of], name=expression[:40], after=after, **more)


def yes(expression: str, values: str = "", of: str = ORDERS, **more: Any) -> Valid:
    return decides(expression, values, of, decision=True, **more)


def no(expression: str, values: str = "", of: str = ORDERS, **more: Any) -> Valid:
    return decides(expression, values, of, decision=False, **more)


def wrong(expression: Any, words: str, **more: Any) -> Invalid:
    return Invalid({"expression": expression}, [ORDERS], field="expression", words=words, **more)


CASES = Cases(
    typical=_typical,
    slow=_slow,
    valid=[
        yes("row_count > 0", "row_count = 3"),
        no("row_count > 0", "row_count = 0", of=NOTHING),
        no("row_count >= 2 && row_count < 3", "row_count = 3"),
        yes("always_true"),
        yes("always_true", of=NOTHING),
        yes("not always_false"),
        yes('column_exists("amount")', 'column_exists("amount") = true'),
        no("column_exists('Nope')", 'column_exists("Nope") = false'),
        no('column_exists("nope") and max("nope") > 3', 'column_exists("nope") = false, max("nope") = NULL'),
        yes('null_pct("status") < 50', 'null_pct("status") = 33.333333333333336'),
        no('null_pct("status") < 5', 'null_pct("status") = 33.333333333333336'),
        yes('null_pct("status") < 5', 'null_pct("status") = 0.0', of=NOTHING),
        yes('min("amount") < 0', 'min("amount") = -3.0'),
        no("max('amount') > 99", "max('amount') = 99.0"),
        yes("sum(amount) / row_count > 30", "sum(amount) = 106.5, row_count = 3"),
        yes("count(*) filter (where status == paid) = 1", "count(*) filter (where status == paid) = 1"),
        no("bool_and(amount > ${param.least})", "bool_and(amount > ${param.least}) = false", params={"least": 0}),
        yes("max(row_count) = 7", "max(row_count) = 7", of="SELECT 7 AS row_count"),
        no("coalesce(max(amount) > 1, false)", "max(amount) = NULL", of=NOTHING),
        yes("max(STATUS) = 'paid'", "max(STATUS) = paid"),
    ],
    invalid=[
        Invalid({}, field="expression", words="is missing"),
        Invalid({"expression": ""}, field="expression", words="must"),
        wrong(5, "must be"),
        wrong("row_count >", "Syntax error at", line=1, column=11),
        wrong("amount > 5", '"amount" has a value in each row, and a condition is one answer', line=1, column=1),
        wrong("status == paid and row_count > 1", "one answer about all of them"),
        wrong("row_count", "gives BIGINT, not true or false"),
        wrong("max(amount)", "gives DECIMAL(11,1), not true or false"),
        wrong('max("amuont") > 1', 'did you mean "amount"?', line=1, column=5),
        wrong('null_pct("nope") > 1', 'nknown column "nope"', line=1, column=10),
        wrong("null_pct(id, amount) > 1", "takes the name of one column"),
        wrong("column_exists(1)", "takes the name of one column"),
        wrong("row_count > 0, true", "ne expression is expected"),
        wrong("(select count(*) from input) > 0", "subquery cannot be used"),
        wrong("read_csv('/etc/passwd') > 0", "nknown function"),
        wrong("row_count > 0; select 1", "ne expression is allowed"),
        wrong("row_count > ${param.nope}", "the run has no parameter nope", at_save=False),
    ],
    failing=[
        Failing({"expression": "max(amount) > 1"}, [NOTHING], words=["is NULL, not true or false (max(amount) = NULL)", "coalesce"]),
        Failing({"expression": "max(status)::INTEGER > 1"}, [ORDERS], words=["paid"]),
    ],
)
