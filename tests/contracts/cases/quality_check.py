"""`quality_check`."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.contracts.case import Cases, Failing, Given, Invalid, Valid
from tests.contracts.workshop import Outcome, Workshop

ORDERS = """SELECT * FROM (VALUES
    (1, 'paid', 10.5, DATE '2024-01-01', '12', true), (2, 'open', -3, DATE '2024-01-02', 'x', false),
    (2, NULL, 99, NULL, ' ', NULL), (NULL, 'void', 5, DATE '2023-01-01', NULL, true)) t(id, status, amount, day, txt, ok)"""
PEOPLE = "SELECT * FROM (VALUES (1, 'a'), (3, 'c'), (NULL, 'n')) t(id, code)"
NOTHING = "SELECT 1 AS id, 'a' AS status WHERE false"
MANY = "SELECT i AS id FROM range(1_000_000) t(i)"
NAN = "SELECT CAST('nan' AS DOUBLE) AS x UNION ALL SELECT 1.5"
LAST = "SELECT now() - INTERVAL 2 HOUR AS at, CAST(now() AS DATE) AS day, CAST(now() - INTERVAL 30 HOUR AS TIMESTAMP) AS earlier"
FOREVER = "SELECT TIMESTAMP 'infinity' AS at"


def _typical(workshop: Workshop, table: str) -> Given:
    first = workshop.table(table).schema[0].name
    rules = ["row_count(min=0)", {"rule": "not_null", "column": first}, {"rule": "unique", "column": [first]}]
    return Given({"rules": rules, "on_failure": "warn"}, [table])


def _slow(workshop: Workshop) -> Given:
    return Given({"rules": ["expression(list_sum(list_transform(range(3000), lambda x: x * id)) >= 0)"]}, [MANY])


def holds(*rules: Any, of: Sequence[str] = (ORDERS,), **more: Any) -> Valid:
    """Each rule passes."""

    def after(outcome: Outcome, _workshop: Workshop) -> None:
        assert [check["passed"] for check in outcome.result.checks] == [True] * len(rules), outcome.log.text
        assert outcome.result.reuses == "node1", "the data was copied"

    return Valid({"rules": list(rules)}, of, name=str(rules[0])[:40], after=after, **more)


def broken(rule: Any, failing: int | None, found: str, rows: Sequence[int] = (), of: Sequence[str] = (ORDERS,), **more: Any) -> Valid:
    """The rule is broken by so many rows, these first; it warns, and says what it found."""

    def after(outcome: Outcome, _workshop: Workshop) -> None:
        check = outcome.result.checks[0]
        assert (check["passed"], check["failing_rows"], [row["row"] for row in check["sample"]]) == (False, failing, list(rows))
        assert found in check["found"]
        assert outcome.result.row_count == len(outcome.rows)
        assert outcome.log.lines[0][0] == "warning"

    return Valid({"rules": [rule], "on_failure": "warn"}, of, name=f"{rule} broken"[:50], after=after, logged=[found], **more)


def wrong(rule: Any, field: str, words: str, of: Sequence[str] = (ORDERS,), **more: Any) -> Invalid:
    return Invalid({"rules": ["row_count(min=0)", rule]}, of, field=f"rules.1{field}", words=words, **more)


def rule(name: str, column: Any, on_failure: str | None = None, /, **params: Any) -> Mapping[str, Any]:
    found: dict[str, Any] = {"rule": name, "column": column, "params": params}
    return found if on_failure is None else {**found, "on_failure": on_failure}


def _all_results(outcome: Outcome, _workshop: Workshop) -> None:
    checks = outcome.result.checks
    assert [(check["check"], check["passed"], check["on_failure"]) for check in checks] == [
        ("not_null(id)", False, "warn"),
        ("row_count(min=1)", True, "block"),
        ("max(amount, 1000)", True, "block"),
    ]
    assert checks[0]["sample"] == [
        {"row": 4, "values": {"id": None, "status": "void", "amount": "5.0", "day": "2023-01-01", "txt": None, "ok": "true"}}
    ]
    assert (checks[2]["value"], checks[2]["limit"]) == ("99.0", "max 1000")
    assert outcome.log.lines == [
        ("warning", "Quality rule failed (warning): not_null(id): rows without a value: 1 of 4. For example row 4 (id = NULL)."),
        ("info", "Quality rule passed: row_count(min=1): rows: 4."),
        ("info", "Quality rule passed: max(amount, 1000): rows above 1000: 0 of 4; largest: 99.0."),
    ]


CASES = Cases(
    typical=_typical,
    slow=_slow,
    valid=[
        Valid(
            {"rules": [rule("not_null", "id", "warn"), "row_count(min=1)", "max(amount, 1000)"]},
            [ORDERS],
            after=_all_results,
            name="each result is logged and kept",
        ),
        holds("not_null(amount)"),
        holds(rule("not_null", ["amount", "amount"])),
        broken("not_null(id)", 1, "rows without a value: 1 of 4", [4]),
        broken(rule("not_null", ["id", "status"]), 2, "2 of 4", [3, 4]),
        holds("no_blank(amount)"),
        broken("no_blank(txt)", 2, "2 of 4", [3, 4]),
        broken("regex(v, y)", 1, "1 of 1", [1], of=["SELECT 'a' || chr(0) || 'b' AS v"]),
        broken("no_blank(v)", 3, "3 of 4", [1, 2, 3], of=["SELECT unnest(['', ' ', '\u2003\t', 'x']) AS v"]),
        holds("unique(amount)", "unique(id, status)"),
        broken("unique(id)", 1, "rows that repeat the value of another: 1 of 4", [2, 3]),
        broken(rule("unique", ["id", "x"]), 1, "1 of 4", [2, 4], of=["SELECT * FROM (VALUES (1,1),(2,1),(2,NULL),(2,1)) t(id, x)"]),
        holds("min(amount, -3)", rule("min", "amount", min="-3"), rule("min", "amount", value=-3.0), "min(day, 2023-01-01)"),
        broken("min(amount, 0)", 1, "rows below 0: 1 of 4; smallest: -3.0", [2]),
        broken("min(day, 2024-01-01)", 1, "rows below 2024-01-01: 1 of 4; smallest: 2023-01-01", [4]),
        broken("min(txt, 12)", 2, "2 of 4", [2, 3]),  # texts are read as numbers; what is none breaks the rule
        holds("max(amount, 99)"),
        broken(rule("max", "amount", max=50), 1, "rows above 50: 1 of 4; largest: 99.0", [3]),
        broken("max(x, 10)", 1, "1 of 2", [1], of=[NAN]),
        holds("range(amount, -3, 99)", "range(amount, max=99)", rule("range", "amount", min=-3)),
        broken("range(amount, 0, 50)", 2, "rows below 0 or above 50: 2 of 4; values: -3.0 to 99.0", [2, 3]),
        holds("row_count(min=4, max=4)", "row_count(max=5)"),
        broken("row_count(min=5)", None, "rows: 4"),
        broken("row_count(min=1)", None, "rows: 0", of=[NOTHING]),
        broken(rule("row_count", "", max="3"), None, "rows: 4"),
        holds("regex(status, ^(paid|open|void)$)", "regex(status, o|a)", "regex(amount, [0-9])", rule("regex", "txt", pattern=".")),
        broken("regex(status, ^p)", 2, "2 of 4", [2, 4]),
        holds(
            "type_check(id, integer)", "type_check(amount, number)", "type_check(day, timestamp)", "type_check(status, text)", "type_check(ok, bool)"
        ),
        broken("type_check(txt, integer)", 2, "rows that are no integer: 2 of 4", [2, 3]),
        broken("type_check(txt, number)", 2, "2 of 4", [2, 3]),
        broken("type_check(amount, int)", 1, "1 of 4", [1]),
        broken(rule("type_check", "id", type="date"), 3, "3 of 4", [1, 2, 3]),
        holds(
            "type_check(d, date)", "type_check(t, time)", "type_check(u, uuid)", of=["SELECT '2024-02-29' AS d, '10:30' AS t, uuid()::VARCHAR AS u"]
        ),
        broken("type_check(d, date)", 1, "1 of 1", [1], of=["SELECT '2023-02-29' AS d"]),
        holds("freshness(at, max_hours=3)", "freshness(day, max_days=2)", "freshness(earlier, 31)", of=[LAST], rows=None),
        holds(rule("freshness", "at", max_age_hours="1"), of=[FOREVER]),
        broken("freshness(at, max_hours=1)", None, "2.0 h old", of=[LAST]),
        broken("freshness(earlier, max_minutes=90)", None, "30.0 h old", of=[LAST]),
        broken("freshness(day, max_hours=24)", None, "there is no value, so nothing is fresh", of=["SELECT CAST(NULL AS DATE) AS day"]),
        holds("accepted_values(status, paid, open, void)", "accepted_values(id, [1, 2])", "accepted_values(ok, true, false)"),
        holds(rule("accepted_values", "amount", values=[10.5, "-3", 99, 5.0]), rule("accepted_values", "status", allowed=["paid", "open", "void"])),
        broken(rule("accepted_values", "status", values=["paid", "it's"]), 2, "rows with another value: 2 of 4", [2, 4]),
        holds(rule("accepted_values", "day", values=["2024-01-01", "2024-01-02", "2023-01-01"])),
        holds("foreign_key(id, node2.id)", of=["SELECT 1 AS id UNION ALL SELECT NULL", PEOPLE], rows=None),
        broken("foreign_key(id, Node 2.id)", 2, "rows whose value is not in Node 2.id: 2 of 4", [2, 3], of=[ORDERS, PEOPLE]),
        broken(rule("foreign_key", "id"), 2, "2 of 4", [2, 3], of=[ORDERS, PEOPLE]),
        broken(rule("foreign_key", "status", input="node3", column="code"), 3, "3 of 4", [1, 2, 4], of=[ORDERS, NOTHING, PEOPLE]),
        broken(
            rule("foreign_key", ["id", "code"], input="node2"), 1, "1 of 2", [2], of=["SELECT * FROM (VALUES (1,'a'),(3,'a')) t(id,code)", PEOPLE]
        ),
        holds("expression(amount >= -3 and amount < 100)", "expression(status in [paid, open, void])", rule("expression", "", condition="id > 0")),
        broken("expression(amount > 0)", 1, "rows for which it is not true: 1 of 4", [2]),
        broken("expression(amount > ${param.least})", 2, "2 of 4", [2, 4], params={"least": 5}),
        broken(rule("min", "${param.which}", min="${param.least}"), 2, "rows below 6: 2 of 4", [2, 4], params={"least": 6, "which": "amount"}),
        holds('not_null("my, column")', "unique('my, column')", of=['SELECT 1 AS "my, column"'], rows=None),
        holds("not_null(ID)", of=["SELECT 1 AS Id"]),
        holds(*(f"unique(c{number})" for number in range(120)), of=["SELECT " + ", ".join(f"i AS c{n}" for n in range(120)) + " FROM range(3) t(i)"]),
        holds(
            *(f"not_null(c{number})" for number in range(500)), of=["SELECT " + ", ".join(f"i AS c{n}" for n in range(500)) + " FROM range(3) t(i)"]
        ),
        broken("not_null(id, on_failure=warn)", 1, "1 of 3", [3], of=[PEOPLE]),
        holds("not_null(id)", "unique(id)", "min(id, 5)", "regex(status, x)", "accepted_values(status, x)", of=[NOTHING]),
    ],
    invalid=[
        Invalid({}, field="rules", words="is missing"),
        Invalid({"rules": []}, field="rules", words="must not be empty; without rules there is nothing to check"),
        Invalid({"rules": 5}, field="rules", words="must be a list"),
        Invalid({"rules": ["not_null(id)"], "on_failure": "explode"}, field="on_failure", words="must be 'block' or 'warn'"),
        wrong("nope(id)", "", "has the unknown rule 'nope'; known: accepted_values, expression"),
        wrong({"rule": "nope", "column": "id"}, "", "has the unknown rule 'nope'"),
        wrong({"column": "id"}, "", "needs 'rule'"),
        wrong(5, "", "must be an object"),
        wrong("not_null", "", "is not a rule; write it as name(column, …)"),
        wrong("not_null()", "", "needs the name of a column"),
        wrong("min(id)", "", "says too little; write it as min(column, min)"),
        wrong("range(id, 1, 2, 3)", "", "1 arguments too many"),
        wrong("row_count(5)", "", "takes its limits by name"),
        wrong("row_count()", "", "give min, max or both"),
        wrong("regex(status)", "", "needs a pattern"),
        wrong("not_null(id,)", "", "has an empty argument"),
        wrong("min(id, abc)", "", "neither a number nor a date"),
        wrong(rule("min", "id", min="abc"), ".params.min", "neither a number nor a date"),
        wrong(rule("min", "id", min=True), ".params.min", "must be a number, a date or a time"),
        wrong(rule("min", "id"), ".params.min", "is missing"),
        wrong({"rule": "min", "column": "id"}, ".params", "is missing"),
        wrong({"rule": "not_null"}, ".column", "is missing"),
        wrong(rule("not_null", ""), ".column", "must not be empty"),
        wrong(rule("range", "id", min=5, max=1), ".params.min", "is greater than max"),
        wrong(rule("row_count", "", min=-1), ".params.min", "must be a whole number, 0 or more"),
        wrong(rule("row_count", "", min=1.5), ".params.min", "must be a whole number"),
        wrong(rule("type_check", "id", expected_type="colour"), ".params.expected_type", "must be 'string', 'integer'"),
        wrong(rule("freshness", "day"), ".params.max_hours", "is missing"),
        wrong(rule("accepted_values", "id", values=[]), ".params.values", "must not be empty"),
        wrong(rule("not_null", "id", "explode"), ".on_failure", "must be 'block' or 'warn'"),
        wrong("not_null(idd)", ".column", "There is no column 'idd'. Did you mean 'id'?"),
        wrong("unique(id, zzz)", ".column", "There is no column 'zzz'. Columns: id, status"),
        wrong(rule("row_count", "zzz", min=1), ".column", "There is no column 'zzz'"),
        wrong("regex(status, a(b)", ".params.pattern", "The regular expression is not valid: missing )", line=1, column=4),
        wrong("regex(status, x*(?<=b)a)", ".params.pattern", "invalid perl operator", line=1, column=3),
        wrong("expression(amount >)", ".params.expression", "Syntax error at or near", line=1, column=8),
        wrong("expression(amoun > 1)", ".params.expression", 'did you mean "amount"?', line=1, column=1),
        wrong("expression(sum(amount) > 1)", ".params.expression", "must be true or false of each row"),
        wrong("expression(amount)", ".params.expression", "gives DECIMAL(11,1), not true or false"),
        wrong("expression(amount in (select 1))", ".params.expression", "A subquery cannot be used"),
        wrong("min(day, 5)", ".params.min", "Column 'day' is DATE and cannot be compared with the number 5"),
        wrong("max(amount, 2024-01-01)", ".params.max", "cannot be compared with a date or time"),
        wrong("min(ok, 1)", ".params.min", "Column 'ok' is BOOLEAN"),
        wrong("freshness(amount, 5)", ".column", "Column 'amount' is DECIMAL(11,1) and cannot be compared with a date"),
        wrong("accepted_values(id, 1, two)", ".params.values.1", "'two' is no value of column 'id', which is INTEGER"),
        wrong("accepted_values(ok, yes)", ".params.values.0", "use true or false"),
        wrong("foreign_key(id, node2.id)", ".params.input", "needs a second input"),
        wrong("foreign_key(id, node2.nope)", ".params.column", "There is no column 'nope' in the input with the keys", of=[ORDERS, PEOPLE]),
        wrong("foreign_key(id, node2.code)", ".params.column", "they are never equal", of=[ORDERS, PEOPLE]),
        wrong("foreign_key(id, elsewhere.id)", ".params.input", "There is no input 'elsewhere' after the first", of=[ORDERS, PEOPLE], at_save=False),
        wrong(rule("foreign_key", "id"), ".params.input", "Say which input", of=[ORDERS, PEOPLE, NOTHING], at_save=False),
        wrong(rule("min", "amount", min="${param.nope}"), "", "the run has no parameter nope", at_save=False),
        wrong(rule("min", "amount", min="${param.low}"), ".params.min", "neither a number nor a date", at_save=False, params={"low": "abc"}),
    ],
    failing=[
        Failing(
            {"rules": ["not_null(id)", "unique(amount)"]},
            [ORDERS],
            words=["1 of 2 quality rules failed: not_null(id): rows without a value: 1 of 4 (rules.0)"],
        ),
        Failing(
            {"checks": [rule("min", "amount", min=0), rule("unique", "id", "block"), rule("not_null", "id", "warn")], "on_failure": "block"},
            [ORDERS],
            words=["2 of 3 quality rules failed", "min(amount, 0)", "smallest: -3.0 (limit: min 0) (rules.0)", "unique(id)"],
        ),
        Failing({"rules": [rule("not_null", "id", "block")], "on_failure": "warn"}, [ORDERS], words=["not_null(id)"]),
        Failing({"rules": ["row_count(min=1)"]}, [NOTHING], words=["row_count(min=1): rows: 0 (limit: min 1)"]),
    ],
    normalised=[
        ({"checks": ["not_null(id)"]}, {"rules": ["not_null(id)"]}),
        ({"rules": [{"rule": " MIN ", "columns": "x", "params": {"value": 1}}]}, {"rules": [{"rule": "min", "column": "x", "params": {"min": 1}}]}),
        (
            {"rules": [{"rule": "type_check", "column": "x", "params": {"expected": "Int64"}}]},
            {"rules": [{"rule": "type_check", "column": "x", "params": {"expected_type": "integer"}}]},
        ),
        (
            {"rules": [{"rule": "foreign_key", "column": "x", "params": {"references": "a.b.c"}}]},
            {"rules": [{"rule": "foreign_key", "column": "x", "params": {"input": "a.b", "column": "c"}}]},
        ),
        ({"rules": "?"}, {"rules": "?"}),
    ],
)
