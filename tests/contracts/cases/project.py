"""`project`."""

import datetime as dt
from decimal import Decimal
from typing import Any

from tests.contracts.case import Cases, Failing, Given, Invalid, Valid
from tests.contracts.trees import TRUE, add, column, concat, literal, op
from tests.contracts.workshop import Workshop

ORDERS = """SELECT * FROM (VALUES
    (1, 2.5::DOUBLE, 'Ann', '10', true, DATE '2024-02-29', {'city': 'Rome', 'geo': {'lat': 41.9::DOUBLE}}),
    (2, NULL, NULL, 'x', NULL, NULL, NULL)) t(id, price, name, age, paid, day, address)"""
MONEY = "SELECT 1.10::DECIMAL(18,2) AS net, 3 AS count, 9007199254740993 AS big"
MILLION = "SELECT i AS id, 'name ' || i AS name FROM range(1_000_000) t(i)"


def projections(**columns: Any) -> dict[str, Any]:
    return {"expression_version": 1, "projections": [{"name": name, "expr": tree} for name, tree in columns.items()]}


def _typical(workshop: Workshop, table: str) -> Given:
    return Given({"projections": [{"name": one.name, "expr": column(one.name)} for one in workshop.table(table).schema]}, [table])


def _slow(workshop: Workshop) -> Given:
    return Given(projections(**{f"c{number}": concat(column("name"), concat(number, column("name"))) for number in range(300)}), [MILLION])


def _deep(levels: int) -> Any:
    tree: Any = column("id")
    for _ in range(levels):
        tree = add(tree, 1)
    return tree


WHEN_NULL = op("is_null", arg=column("price"))
CASES = Cases(
    typical=_typical,
    slow=_slow,
    valid=[
        Valid(projections(who=column("name"), id=column("ID")), [ORDERS], columns=["who", "id"], rows=[("Ann", 1), (None, 2)], name="columns"),
        Valid(
            projections(total=add(column("id"), 1), half=op("divide", column("id"), 2), more=op("multiply", column("price"), column("id"))),
            [ORDERS],
            types=["INTEGER", "DOUBLE", "DOUBLE"],
            rows=[(2, 0.5, 2.5), (3, 1.0, None)],
            name="arithmetic: a division gives a fraction",
        ),
        Valid(
            projections(n=literal(7), x=literal(1.5), t=literal("it's"), b=TRUE, nothing=literal(None)),
            ["SELECT 1 AS id"],
            columns=["n", "x", "t", "b", "nothing"],
            rows=[(7, 1.5, "it's", True, None)],
            name="literals",
        ),
        Valid(projections(n=literal(7), x=literal(1.5)), ["SELECT 1 AS id"], types=["BIGINT", "DOUBLE"], name="types of literals are the SDK's"),
        Valid(
            projections(net=add(column("net"), column("net")), taxed=op("multiply", column("net"), 1.5), big=add(column("big"), 1)),
            [MONEY],
            types=["DECIMAL(19,2)", "DOUBLE", "BIGINT"],
            rows=[(Decimal("2.20"), 1.6500000000000001, 9007199254740994)],
            name="numbers keep their digits",
        ),
        Valid(
            projections(text=concat(column("name"), concat("-", column("id"))), nothing=concat(column("name"), None)),
            [ORDERS],
            rows=[("Ann-1", None), (None, None)],
            name="concat with null is null",
        ),
        Valid(
            projections(city=column("address", "city"), lat=column("address", "geo", "lat")),
            [ORDERS],
            types=["VARCHAR", "DOUBLE"],
            rows=[("Rome", 41.9), (None, None)],
            name="fields of structs",
        ),
        Valid(
            projections(
                price=op("coalesce", args=[column("price"), literal(0.0)]),
                size=op("case_when", branches=[{"when": op("gt", column("price"), 2), "then": literal("large")}], **{"else": literal("small")}),
                bare=op("case_when", branches=[{"when": WHEN_NULL, "then": literal(1)}]),
                paid=op("case_when", branches=[{"when": column("paid"), "then": literal("yes")}], **{"else": literal("no")}),
            ),
            [ORDERS],
            rows=[(2.5, "large", None, "yes"), (0.0, "small", 1, "no")],
            name="coalesce and case_when",
        ),
        Valid(
            projections(
                eq=op("eq", column("name"), "Ann"),
                neq=op("neq", column("name"), "Ann"),
                neither=op("not", arg=op("eq", column("name"), "Bob")),
                all=op("and", args=[column("paid"), op("gte", column("price"), 2.5)]),
                any=op("or", args=[WHEN_NULL, op("lte", column("id"), 1)]),
            ),
            [ORDERS],
            rows=[(True, False, True, True, True), (False, False, True, False, True)],
            name="a comparison with null is false",
        ),
        Valid(
            projections(old=op("gt", column("age"), 9), young=op("lt", 9, column("age")), day=op("eq", column("day"), "2024-02-29")),
            [ORDERS],
            rows=[(True, True, True), (False, False, False)],
            name="a text is compared with a number as a number",
        ),
        Valid(
            projections(
                share=op("case_when", branches=[{"when": op("eq", column("n"), 0), "then": literal(None)}], **{"else": op("divide", 1, column("n"))})
            ),
            ["SELECT * FROM (VALUES (0), (2), (NULL)) t(n)"],
            rows=[(None,), (0.5,), (None,)],
            name="case_when guards a division",
        ),
        Valid(projections(n=_deep(99)), ["SELECT 1 AS id"], rows=[(100,)], name="99 additions within each other"),
        Valid(
            {**projections(**{'a"; DROP TABLE x; --': concat('"', "'); DROP TABLE input; --")}), "schema": {"contract": "x"}},
            ["SELECT 1 AS id"],
            columns=['a"; DROP TABLE x; --'],
            rows=[("\"'); DROP TABLE input; --",)],
            name="names and texts are no SQL",
        ),
        Valid(
            projections(up=add(column("id"), literal("${param.step}")), tag=concat("${param.tag}", "!")),
            ["SELECT 1 AS id"],
            params={"step": 5, "tag": "'); --"},
            rows=[(6, "'); --!")],
            name="params are values",
        ),
        Valid(projections(day=add(column("day"), 1)), ["SELECT DATE '2024-02-28' AS day"], rows=[(dt.date(2024, 2, 29),)], name="days"),
    ],
    invalid=[
        Invalid({}, field="projections", words="is missing"),
        Invalid({"projections": []}, field="projections", words="must not be empty"),
        Invalid({"projections": "x"}, field="projections", words="must be"),
        Invalid({"projections": [{"expr": column("id")}]}, field="projections.0.name", words="is missing"),
        Invalid({"projections": [{"name": "", "expr": column("id")}]}, field="projections.0.name", words="must not be empty"),
        Invalid({"projections": [{"name": "a"}]}, field="projections.0.expr", words="is missing"),
        Invalid({**projections(a=column("id")), "expression_version": 2}, field="expression_version", words="must be 1"),
        Invalid(projections(a="id"), field="projections.0.expr", words="An expression is an object"),
        Invalid(projections(a={}), field="projections.0.expr.op", words="The operator is missing"),
        Invalid(projections(a={"op": "substract"}), field="projections.0.expr.op", words="Did you mean 'subtract'?"),
        Invalid(projections(a={"op": "drop"}), field="projections.0.expr.op", words="There is no operator 'drop'"),
        Invalid(projections(a={"op": "column"}), field="projections.0.expr.path", words="The path is a list of names"),
        Invalid(projections(a={"op": "column", "path": ["id", 3]}), field="projections.0.expr.path", words="The path is a list of names"),
        Invalid(projections(a={"op": "literal"}), field="projections.0.expr.value", words="needs a value"),
        Invalid(projections(a=literal([1])), field="projections.0.expr.value", words="A literal is a text, a number"),
        Invalid(projections(a=literal(2**63)), field="projections.0.expr.value", words="64 bits"),
        Invalid(projections(a=literal("\0")), field="projections.0.expr", words="NUL"),
        Invalid(projections(a={"op": "add", "left": literal(1)}), field="projections.0.expr.right", words="needs a left and a right side"),
        Invalid(projections(a={"op": "coalesce", "args": []}), field="projections.0.expr.args", words="at least one"),
        Invalid(projections(a={"op": "and", "args": [{}]}), field="projections.0.expr.args.0.op", words="The operator is missing"),
        Invalid(projections(a={"op": "not"}), field="projections.0.expr.arg", words="needs an expression"),
        Invalid(projections(a={"op": "case_when", "branches": []}), field="projections.0.expr.branches", words="a list of branches"),
        Invalid(projections(a={"op": "case_when", "branches": [{"when": TRUE}]}), field="projections.0.expr.branches.0", words="'then'"),
        Invalid(projections(a=_deep(100)), field="projections.0.expr" + ".left" * 100, words="nested 100 deep"),
        Invalid(projections(a=literal(1), A=literal(2)), field="projections.1.name", words="Two columns would be called 'A'"),
        Invalid(projections(a=add(column("prise"), 1)), [ORDERS], field="projections.0.expr.left.path", words="Did you mean 'price'?"),
        Invalid(
            projections(a=add(column("name"), 1)), [ORDERS], field="projections.0.expr.left", words="'add' works with numbers, and this is a text"
        ),
        Invalid(projections(a=add(column("id"), "5")), [ORDERS], field="projections.0.expr.right", words="works with numbers"),
        Invalid(projections(a=add(column("paid"), 1)), [ORDERS], field="projections.0.expr.left", words="this is true or false"),
        Invalid(projections(a=add(add(column("day"), column("day")), 1)), [ORDERS], field="projections.0.expr.left", words="+(DATE, DATE)"),
        Invalid(projections(a=column("id", "x")), [ORDERS], field="projections.0.expr.path", words="is INTEGER and has no field 'x'"),
        Invalid(projections(a=concat(column("address", "town"), "!")), [ORDERS], field="projections.0.expr.left", words='Could not find key "town"'),
        Invalid(projections(a=op("coalesce", args=[column("id"), literal("none")])), [ORDERS], field="projections.0.expr", words="of one type"),
        Invalid(
            projections(a=op("not", arg=column("address", "city"))),
            [ORDERS],
            field="projections.0.expr.arg",
            words="must be true or false, and this is",
        ),
        Invalid(projections(a=op("not", arg=column("id"))), [ORDERS], field="projections.0.expr.arg", words="this is a number"),
    ],
    failing=[
        Failing(
            projections(a=literal(1), b=op("divide", column("id"), op("subtract", column("id"), 2))),
            [ORDERS],
            words=["Field 'projections.1.expr': a division by zero", "case_when"],
        ),
        Failing(projections(a=add(column("n"), 1)), ["SELECT 2147483647 AS n"], words=["Overflow"]),
        Failing(projections(a=column("${param.which}")), ["SELECT 1 AS id"], params={"which": "idd"}, words=["projections.0.expr.path", "'idd'"]),
        Failing(projections(a=literal("${param.none}")), ["SELECT 1 AS id"], words=["Field 'projections'", "none"]),
    ],
    normalised=[(projections(a=column("id")), projections(a=column("id")))],
)
