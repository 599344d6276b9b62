"""`sql`."""

from decimal import Decimal

from tests.contracts.case import Cases, Failing, Given, Invalid, Valid
from tests.contracts.workshop import Workshop

ORDERS = "SELECT * FROM (VALUES (1, 10, 5.5), (2, 20, 7.0), (3, 10, NULL)) t(id, customer, amount)"
CUSTOMERS = "SELECT * FROM (VALUES (10, 'Ann'), (20, 'Bob')) t(id, name)"
MILLION = "SELECT i AS id FROM range(1_000_000) t(i)"


def _typical(workshop: Workshop, table: str) -> Given:
    return Given({"query": "SELECT * FROM input"}, [table])


def _slow(workshop: Workshop) -> Given:
    return Given({"query": "SELECT id, list_sum(list_transform(range(2000), lambda i: (i * id) % 7)) AS busy FROM input"}, [MILLION])


JOINED = "SELECT o.id, c.name FROM {} AS o JOIN {} AS c ON c.id = o.customer ORDER BY o.id"
THREE = [(1, "Ann"), (2, "Bob"), (3, "Ann")]

CASES = Cases(
    typical=_typical,
    slow=_slow,
    valid=[
        Valid({"query": JOINED.format("input", "input_2")}, [ORDERS, CUSTOMERS], columns=["id", "name"], rows=THREE, name="by order"),
        Valid({"query": JOINED.format("node1", '"NODE2"')}, [ORDERS, CUSTOMERS], rows=THREE, logged=["Query reads node1, node2"], name="by id"),
        Valid({"query": JOINED.format("node_1", '"Node 2"')}, [ORDERS, CUSTOMERS], rows=THREE, name="by name"),
        Valid({"query": "SELECT node1.id FROM node1 WHERE node1.amount IS NULL"}, [ORDERS], rows=[(3,)], name="the name qualifies columns"),
        Valid({"query": "SELECT 1 AS x"}, rows=[(1,)], name="no input"),
        Valid({"query": "SELECT * FROM input;"}, [CUSTOMERS], rows=[(10, "Ann"), (20, "Bob")], name="a semicolon at the end"),
        Valid({"query": "-- all\nFROM input /* of it */"}, [CUSTOMERS], rows=[(10, "Ann"), (20, "Bob")], name="comments and FROM first"),
        Valid(
            {"query": "WITH input AS (SELECT 1 AS one) SELECT node1.id, one FROM node1, input ORDER BY ALL"},
            [CUSTOMERS],
            rows=[(10, 1), (20, 1)],
            name="a WITH entry of a view's name",
        ),
        Valid(
            {"query": "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT i FROM n ORDER BY i"},
            [CUSTOMERS],
            rows=[(1,), (2,), (3,)],
            name="recursion",
        ),
        Valid(
            {"query": "SELECT customer, sum(amount) AS total, count(*) AS n FROM input GROUP BY ALL HAVING total > 0 ORDER BY total DESC LIMIT 5"},
            [ORDERS],
            types=["INTEGER", "DECIMAL(38,1)", "BIGINT"],
            rows=[(20, Decimal("7.0"), 1), (10, Decimal("5.5"), 2)],
            name="aggregates",
        ),
        Valid({"query": "SELECT sum(id) AS s FROM input"}, [ORDERS], types=["BIGINT"], rows=[(6,)], name="wide sums are stored as BIGINT"),
        Valid(
            {"query": "SELECT id, row_number() OVER (PARTITION BY customer ORDER BY id) AS n FROM input QUALIFY n = 1 ORDER BY id"},
            [ORDERS],
            rows=[(1, 1), (2, 1)],
            name="windows",
        ),
        Valid(
            {"query": "SELECT id FROM input WHERE customer IN (SELECT id FROM input_2 WHERE name = 'Bob')"},
            [ORDERS, CUSTOMERS],
            rows=[(2,)],
            name="subquery",
        ),
        Valid({"query": "SELECT i FROM input, unnest([1, 2]) AS t(i) WHERE id = 10"}, [CUSTOMERS], rows=[(1,), (2,)], name="unnest"),
        Valid({"query": "SELECT list_transform([id], x -> x + 1) AS l FROM input LIMIT 1"}, [CUSTOMERS], rows=[([11],)], name="the older lambda"),
        Valid(
            {"query": "SELECT id FROM input WHERE name = ${param.name} OR name = 'B${param.end}' LIMIT ${param.n}"},
            [CUSTOMERS],
            rows=[(20,)],
            params={"name": "x' OR '1'='1", "end": "ob", "n": 5},
            name="params are values",
        ),
        Valid({"query": "SELECT '$${param.x}' AS literal"}, rows=[("${param.x}",)], name="escape"),
        Valid({"query": 'SELECT "select" AS "größe" FROM input'}, ['SELECT 7 AS "select"'], columns=["größe"], rows=[(7,)], name="odd names"),
    ],
    invalid=[
        Invalid({}, field="query", words="is missing"),
        Invalid({"query": ""}, field="query", words="must not be empty"),
        Invalid({"query": "  "}, field="query", words="empty"),
        Invalid({"query": 5}, field="query", words="must be a text"),
        Invalid({"query": "SELECT *\nFROM input WHERE )"}, field="query", words="Syntax error", line=2, column=18),
        Invalid({"query": "SELECT 1; SELECT 2"}, field="query", words="One SELECT is allowed"),
        Invalid({"query": "DELETE FROM input"}, field="query", words="Only a single SELECT is allowed"),
        Invalid({"query": "SELECT * FROM read_csv('/etc/passwd')"}, field="query", words="read_csv cannot be used", line=1, column=15),
        Invalid({"query": "SELECT uppr(id) FROM input"}, field="query", words='did you mean "upper"', line=1, column=8),
        Invalid({"query": "SELECT * FROM main.input"}, field="query", words="main.input cannot be read"),
        Invalid({"query": "SELECT 1\n + nam AS x FROM input"}, [CUSTOMERS], field="query", words='"nam" not found', line=2, column=4),
        Invalid({"query": "SELECT lower(id) FROM input"}, [CUSTOMERS], field="query", words="lower(INTEGER)", line=1, column=8),
        Invalid(
            {"query": "SELECT * FROM orders"}, [ORDERS, CUSTOMERS], field="query", words='here "node1", "node2", "input", "input_2"', at_save=False
        ),
        Invalid({"query": "SELECT ${param.x}"}, field="query", words="no parameter x", at_save=False),
        Invalid({"query": "SELECT ${var.x}"}, field="query", words="there is no variable 'x'", line=1, column=8, at_save=False),
        Invalid(
            {"query": "SELECT * FROM ${param.table}"},
            field="query",
            words="a value, or within a quoted text",
            params={"table": "input"},
            at_save=True,
        ),
    ],
    failing=[
        Failing({"query": "SELECT name::INTEGER AS n FROM input"}, [CUSTOMERS], words=["'Ann'", "INT32"]),
    ],
    normalised=[({"query": "SELECT 1", "x": 2}, {"query": "SELECT 1", "x": 2})],
)
