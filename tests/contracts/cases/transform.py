"""`transform`."""

import datetime as dt
from decimal import Decimal
from typing import Any

from tests.contracts.case import Cases, Failing, Given, Invalid, Valid
from tests.contracts.workshop import Workshop

ORDERS = """SELECT * FROM (VALUES
    (1, 'paid', 'Ann  ', 5.50, '10'), (2, 'open', 'bob', NULL, '9'), (1, 'paid', 'Ann  ', 5.50, '10'), (3, NULL, 'o''neill-SMITH', 7.25, 'x'))
    t(id, status, name, amount, age)"""
EMPTY = f"SELECT * FROM ({ORDERS}) WHERE false"
PEOPLE = "SELECT * FROM (VALUES ('Ada', 'Lovelace', 36), ('Alan', 'Turing', 41), (NULL, 'Nobody', NULL)) t(first, last, age)"
NUMBERS = "SELECT i AS id, i % 3 AS k, i * 0.5::DOUBLE AS amount FROM range(10) t(i)"
MILLION = "SELECT i AS id FROM range(1_000_000) t(i)"


def rules(*given: Any) -> dict[str, Any]:
    return {"rules": list(given)}


def _typical(workshop: Workshop, table: str) -> Given:
    return Given(rules({"type": "filter_rows", "condition": "1 = 1"}, {"type": "deduplicate"}), [table])


def _slow(workshop: Workshop) -> Given:
    busy = "list_sum(list_transform(range(2000), lambda i: (i * id) % 7))"
    return Given(rules({"type": "add_column", "name": "busy", "expression": busy}), [MILLION])


def aggregated(*functions: str) -> list[dict[str, str]]:
    return [{"column": "amount", "function": function} for function in functions]


RULES = [
    Valid({}, [PEOPLE], columns=["first", "last", "age"], name="no rules"),
    Valid(
        rules({"type": "rename_columns", "mapping": {"id": "name", "name": "id"}}),
        [ORDERS],
        columns=["name", "status", "id", "amount", "age"],
        name="rename can swap",
    ),
    Valid(rules({"type": "rename", "from": "first", "to": "given"}), [PEOPLE], columns=["given", "last", "age"], name="the SDK's rename"),
    Valid(
        rules(
            {"type": "add_column", "name": "name", "expression": "first + ' ' + last"},
            {"type": "add_column", "name": "next", "expression": "age + 1"},
        ),
        [PEOPLE],
        columns=["first", "last", "age", "name", "next"],
        rows=[("Ada", "Lovelace", 36, "Ada Lovelace", 37), ("Alan", "Turing", 41, "Alan Turing", 42), (None, "Nobody", None, None, None)],
        logged=["Rule 1 add_column: 3 rows; columns: + name"],
        name="add columns",
    ),
    Valid(
        rules({"type": "add_column", "name": "AGE", "expression": "age * 2"}),
        [PEOPLE],
        columns=["first", "last", "age"],
        rows=[("Ada", "Lovelace", 72), ("Alan", "Turing", 82), (None, "Nobody", None)],
        logged=["age replaced"],
        name="add replaces in place",
    ),
    Valid(
        rules({"type": "add_column", "name": "a", "expression": "upper(first)"}, {"type": "add_column", "name": "b", "expression": "a + age"}),
        [PEOPLE],
        rows=[("Ada", "Lovelace", 36, "ADA", "ADA36"), ("Alan", "Turing", 41, "ALAN", "ALAN41"), (None, "Nobody", None, None, None)],
        name="the type of a computed column decides what + means",
    ),
    Valid(rules({"type": "filter", "condition": "status == paid"}), [ORDERS], columns=["id", "status", "name", "amount", "age"], name="bare word"),
    Valid(
        rules({"type": "filter_rows", "condition": "age > 9"}, {"type": "select", "columns": ["age"]}),
        [ORDERS],
        rows=[("10",), ("10",)],
        logged=["Rule 1 filter_rows: 4 → 2 rows", "Rule 2 select: 2 rows; columns: only age"],
        name="text is compared as a number",
    ),
    Valid(
        rules(
            {"type": "filter_rows", "condition": "id >= ${param.least}"}, {"type": "limit", "n": "${param.n}"}, {"type": "select", "columns": "id"}
        ),
        [NUMBERS],
        rows=[(4,), (5,)],
        params={"least": 4, "n": 2},
        logged=["Rule 1 filter_rows: 10 → 6 rows", "Rule 2 limit: 6 → 2 rows"],
        name="params",
    ),
    Valid(
        rules({"type": "filter_rows", "condition": "status == ${param.status}"}),
        [ORDERS],
        rows=[],
        params={"status": "paid' OR '1' = '1"},
        name="a param is a value and never SQL",
    ),
    Valid(
        rules(
            {"type": "function", "column": "name", "function": "title"},
            {"type": "apply_function", "column": "name", "function": "trim"},
            "select(name)",
        ),
        [ORDERS],
        rows=[("Ann",), ("Bob",), ("Ann",), ("O'neill-Smith",)],
        name="functions of text",
    ),
    Valid(
        rules({"type": "apply_function", "column": "amount", "function": "round"}, {"type": "apply_function", "column": "id", "function": "upper"}),
        [ORDERS],
        types=["VARCHAR", "VARCHAR", "VARCHAR", "DECIMAL(3,0)", "VARCHAR"],
        name="functions convert what they get",
    ),
    Valid(
        rules(
            {"type": "replace", "column": "status", "mapping": {"paid": "PAID", "open": None}},
            {"type": "replace_values", "column": "id", "mapping": {"1": 10}},
            {"type": "replace_values", "column": "amount", "mapping": {"5.5": "many"}},
            {"type": "select", "columns": ["id", "status", "amount"]},
        ),
        [ORDERS],
        types=["INTEGER", "VARCHAR", "VARCHAR"],
        rows=[(10, "PAID", "many"), (2, None, None), (10, "PAID", "many"), (3, None, "7.25")],
        name="replace",
    ),
    Valid(rules({"type": "drop", "columns": ["first", "AGE"]}), [PEOPLE], columns=["last"], logged=["- first, age"], name="drop"),
    Valid(
        rules({"type": "sort", "column": "k", "ascending": False}, "select(id)"),
        [NUMBERS],
        rows=[(n,) for n in (2, 5, 8, 1, 4, 7, 0, 3, 6, 9)],
        name="sort",
    ),
    Valid(
        rules({"type": "sort", "columns": ["status", "id"], "ascending": [True, False]}, {"type": "select", "columns": ["status", "id"]}),
        [ORDERS],
        rows=[("open", 2), ("paid", 1), ("paid", 1), (None, 3)],
        name="nulls last",
    ),
    Valid(rules({"type": "dedup", "columns": "k"}), [NUMBERS], rows=[(0, 0, 0.0), (1, 1, 0.5), (2, 2, 1.0)], name="first of each key"),
    Valid(
        rules({"type": "sort", "columns": "id", "ascending": False}, "dedup(k)", "select(id)"),
        [NUMBERS],
        rows=[(9,), (8,), (7,)],
        name="first as sorted",
    ),
    Valid(rules("deduplicate()", "select(id)"), [ORDERS], rows=[(1,), (2,), (3,)], logged=["Rule 1 deduplicate: 4 → 3 rows"], name="whole rows"),
    Valid(
        rules({"type": "agg", "group_by": ["k"], "aggregations": aggregated("sum", "count", "avg", "min", "max", "median", "first", "last")}),
        [NUMBERS],
        columns=["k", *(f"{name}_amount" for name in ("sum", "count", "avg", "min", "max", "median", "first", "last"))],
        rows=[(0, 9.0, 4, 2.25, 0.0, 4.5, 2.25, 0.0, 4.5), (1, 6.0, 3, 2.0, 0.5, 3.5, 2.0, 0.5, 3.5), (2, 7.5, 3, 2.5, 1.0, 4.0, 2.5, 1.0, 4.0)],
        name="aggregate",
    ),
    Valid(
        rules(
            {
                "type": "aggregate",
                "agg_fields": [
                    {"function": "count"},
                    {"column": "id", "function": "sum", "alias": "ids"},
                    {"column": "status", "function": "count_distinct"},
                    {"column": "id", "function": "std"},
                ],
            }
        ),
        [ORDERS],
        columns=["count", "ids", "count_distinct_status", "stddev_id"],
        types=["BIGINT", "BIGINT", "BIGINT", "DOUBLE"],
        name="one group of all",
    ),
    Valid(rules({"type": "aggregate", "agg_fields": [{"function": "count"}]}), [EMPTY], rows=[(0,)], name="no rows to count"),
    Valid(rules({"type": "aggregate", "group_by": "status", "agg_fields": [{"function": "count"}]}), [EMPTY], rows=[], name="no rows, no groups"),
    Valid(
        rules({"type": "cast", "column": "age", "to": "int", "on_error": "null"}, {"type": "fill_null", "column": "age", "value": 0}, "select(age)"),
        [ORDERS],
        types=["BIGINT"],
        rows=[(10,), (9,), (10,), (0,)],
        name="cast and fill",
    ),
    Valid(
        rules({"cast": {"column": "id", "type": "DECIMAL(5, 1)"}}, "select(id)", "limit(1)"),
        [ORDERS],
        rows=[(Decimal("1.0"),)],
        name="cast by its name",
    ),
    Valid(rules("cast(day, date)"), ["SELECT '2024-02-29' AS day"], types=["DATE"], rows=[(dt.date(2024, 2, 29),)], name="cast as text"),
    Valid(rules("drop_null(status)", "select(id)"), [ORDERS], rows=[(1,), (2,), (1,)], name="drop_null"),
    Valid(rules("drop_null()", "select(id)"), [ORDERS], rows=[(1,), (1,)], name="drop_null of all"),
    Valid(
        rules("FILTER id > 1", "rename(id, number)", "total = amount * 2", "sort(-number)", "select(number, total)"),
        [ORDERS],
        columns=["number", "total"],
        rows=[(3, Decimal("14.50")), (2, None)],
        name="rules as texts",
    ),
    Valid(
        rules(
            {"type": "select", "columns": ['quo"ted', "select", "größe"]}, {"type": "filter_rows", "condition": '"select" > 1 and größe is not null'}
        ),
        ['SELECT 1 AS "größe", 2 AS "select", 3 AS "quo""ted", 4 AS x'],
        rows=[(3, 2, 1)],
        name="odd names",
    ),
    Valid(rules({"type": "filter_rows", "condition": "brokoli_row > 1"}, "dedup()"), ["SELECT 2 AS brokoli_row"], rows=[(2,)], name="our own names"),
]

WRONG = [
    Invalid({"rules": "x"}, field="rules", words="must be a list"),
    Invalid(rules(5), field="rules.0", words="must be a rule"),
    Invalid(rules({"type": "filtr_rows"}), field="rules.0.type", words="perhaps 'filter_rows' is meant."),
    Invalid(rules({"condition": "a"}), field="rules.0.type", words="is missing"),
    Invalid(rules("limit(1)", {"type": "filter"}), field="rules.1.condition", words="is missing"),
    Invalid(rules({"type": "limit", "n": -1}), field="rules.0.n", words="0 or more"),
    Invalid(rules({"type": "limit", "n": "many"}), field="rules.0.n", words="whole number"),
    Invalid(rules({"type": "sort", "columns": ["id"], "ascending": [True, True]}), field="rules.0.ascending", words="2 entries for 1 columns"),
    Invalid(
        rules({"type": "agg", "agg_fields": [{"column": "a", "function": "mode"}]}), field="rules.0.agg_fields.0.function", words="must be 'sum'"
    ),
    Invalid(rules({"type": "agg", "agg_fields": [{"function": "sum"}]}), field="rules.0.agg_fields.0.column", words="sum needs a column"),
    Invalid(rules({"type": "agg"}), field="rules.0.agg_fields", words="is empty"),
    Invalid(rules({"type": "rename", "mapping": {}}), field="rules.0.mapping", words="empty"),
    Invalid(rules({"type": "fill_null", "column": "id", "value": None}), field="rules.0.value", words="must be a text"),
    Invalid(rules({"type": "filter", "condition": "amount >"}), field="rules.0.condition", words="Syntax error", line=1, column=8),
    Invalid(rules({"type": "filter", "condition": "amount > 1\n  and )"}), field="rules.0.condition", words="Syntax error", line=2, column=7),
    Invalid(rules("drop_null(id)", "FILTER amount > )"), field="rules.1.expression", words="Syntax error", line=1, column=17),
    Invalid(rules("explode(id)"), field="rules.0.expression", words="is no rule"),
    Invalid(rules("rename(id)"), field="rules.0.expression", words="takes 2 or more"),
    Invalid(rules({"type": "filter", "condition": "read_text('/etc/passwd') = ''"}), field="rules.0.condition", words="Unknown function"),
    Invalid(rules({"type": "filter", "condition": "${secret.x} = 1"}), words="there is no variable 'x'", line=1, column=1, at_save=False),
    Invalid(rules({"type": "cast", "column": "id", "to": "colour"}), [ORDERS], field="rules.0.to", words="Unknown type"),
    Invalid(
        rules({"type": "function", "column": "id", "function": "rot13"}), [ORDERS], field="rules.0.function", words="There is no function 'rot13'"
    ),
    Invalid(rules({"type": "drop", "columns": ["nam"]}), [ORDERS], field="rules.0.columns", words="Did you mean 'name'?"),
    Invalid(rules({"type": "drop", "columns": ["first", "last", "age"]}), [PEOPLE], field="rules.0.columns", words="No column would be left"),
    Invalid(rules({"type": "rename", "mapping": {"id": "name"}}), [ORDERS], field="rules.0.mapping", words="Two columns would be called 'name'"),
    Invalid(rules({"type": "select", "columns": ["id", "ID"]}), [ORDERS], field="rules.0.columns", words="named twice"),
    Invalid(
        rules({"type": "select", "columns": ["id"]}, {"type": "sort", "columns": "name"}), [ORDERS], field="rules.1.columns", words="no column 'name'"
    ),
    Invalid(rules({"type": "filter", "condition": "idd > 3"}), [ORDERS], field="rules.0.condition", words="Unknown column", line=1, column=1),
    Invalid(rules("add_column(x, amoun + 1)"), [ORDERS], field="rules.0.expression", words='did you mean "amount"', line=1, column=15),
    Invalid(rules({"type": "add_column", "name": "x", "expression": "lower(amount)"}), [ORDERS], field="rules.0.expression", words="lower(DECIMAL"),
    Invalid(rules({"type": "fill_null", "column": "id", "value": "none"}), [ORDERS], field="rules.0.value", words="is INTEGER, and 'none' is none"),
    Invalid(rules({"type": "limit", "n": "${param.n}"}), [ORDERS], field="", words="no parameter n", at_save=False),
    Invalid(rules({"type": "limit", "n": "${param.n}"}), [ORDERS], field="rules.0.n", words="whole number", at_save=False, params={"n": "x"}),
]

CASES = Cases(
    typical=_typical,
    slow=_slow,
    valid=RULES,
    invalid=WRONG,
    failing=[
        Failing(rules({"type": "cast", "column": "age", "to": "int"}), [ORDERS], words=["'x'", "INT64", "age"]),
        Failing(rules({"type": "filter_rows", "condition": "id > ${param.least}"}), [ORDERS], words=["no parameter least"]),
        Failing(
            rules({"type": "drop", "columns": "colour"}), [ORDERS], words=["Rule 1 (drop_columns)", "rules.0.columns", "'colour'", "id, status, name"]
        ),
        Failing(rules({"type": "agg", "agg_fields": [{"column": "name", "function": "sum"}]}), [ORDERS], words=["Ann"]),
    ],
    normalised=[
        (rules("drop_null(a)"), rules({"type": "expression", "expression": "drop_null(a)"})),
        (rules({"type": "rename", "from": "a", "to": "b"}), rules({"type": "rename_columns", "mapping": {"a": "b"}})),
        (rules({"type": "agg", "aggregations": [1]}), rules({"type": "aggregate", "agg_fields": [1]})),
        (rules({"type": "sort", "column": "a"}), rules({"type": "sort", "columns": "a"})),
        (rules({"type": "filter", "condition": "a", "x": 1}), rules({"type": "filter_rows", "condition": "a", "x": 1})),
        (rules({"cast": {"column": "a", "type": "int"}}), rules({"column": "a", "to": "int", "type": "cast"})),
    ],
)
