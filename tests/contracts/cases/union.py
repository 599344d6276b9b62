"""`union`."""

import datetime as dt
from decimal import Decimal

from tests.contracts.case import Cases, Failing, Given, Invalid, Valid
from tests.contracts.workshop import Workshop

A = "SELECT * FROM (VALUES (1, 'a'), (2, NULL)) t(id, name)"
B = "SELECT * FROM (VALUES (3::BIGINT, 0.5), (1, 1.5)) t(id, price)"
TEXT_ID = "SELECT 'x' AS id"
MILLION = "SELECT i AS id, i * 2 AS twice, md5(i::VARCHAR) AS digest FROM range(1_000_000) t(i)"


def _typical(workshop: Workshop, table: str) -> Given:
    return Given({}, [table, f"SELECT * FROM ({table}) LIMIT 0"])


def _slow(workshop: Workshop) -> Given:
    return Given({}, [MILLION] * 200)


CASES = Cases(
    typical=_typical,
    slow=_slow,
    valid=[
        Valid({}, [A], columns=["id", "name"], rows=[(1, "a"), (2, None)], name="one input"),
        Valid(
            {},
            [A, B],
            columns=["id", "name", "price"],
            types=["BIGINT", "VARCHAR", "DECIMAL(2,1)"],
            rows=[(1, "a", None), (2, None, None), (3, None, Decimal("0.5")), (1, None, Decimal("1.5"))],
            name="by name",
        ),
        Valid({"mode": "union"}, [B, A], columns=["id", "price", "name"], name="the SDK's mode"),
        Valid(
            {"mode": "by_position"},
            [A, "SELECT 9 AS other, 'z' AS thing"],
            columns=["id", "name"],
            rows=[(1, "a"), (2, None), (9, "z")],
            name="by position",
        ),
        Valid({"distinct": True}, [A, A, "SELECT 0 AS id"], rows=[(1, "a"), (2, None), (0, None)], name="distinct keeps the first"),
        Valid({}, ["SELECT 1 AS Id", "SELECT 2 AS ID"], columns=["Id"], rows=[(1,), (2,)], name="case"),
        Valid(
            {},
            ["SELECT DATE '2024-02-29' AS day", "SELECT TIMESTAMP '2024-03-01 12:00:00' AS day"],
            types=["TIMESTAMP"],
            rows=[(dt.datetime(2024, 2, 29),), (dt.datetime(2024, 3, 1, 12),)],  # noqa: DTZ001 - the column has no zone
            name="dates with timestamps",
        ),
        Valid(
            {},
            ["SELECT TIMESTAMP '2024-03-01 12:00:00' AS at", "SELECT TIMESTAMPTZ '2024-03-01 12:00:00+02' AS at"],
            rows=[("2024-03-01 12:00:00+00",), ("2024-03-01 10:00:00+00",)],
            name="a time without a zone is UTC",
        ),
        Valid({}, ["SELECT 9007199254740993 AS n", "SELECT 0.5::DECIMAL(3, 1) AS n"], types=["DECIMAL(21,1)"], name="no digit is lost"),
        Valid({}, [f"SELECT {number} AS id, 'x' AS name" for number in range(500)], rows=[(n, "x") for n in range(500)], name="500 inputs"),
        Valid({}, ["SELECT 1 AS id", "SELECT 2 AS id WHERE false"], rows=[(1,)], name="one is empty"),
    ],
    invalid=[
        Invalid({"mode": "sideways"}, field="mode", words="must be 'by_name' or 'by_position'"),
        Invalid({"mode": 3}, field="mode", words="must be"),
        Invalid({"distinct": "perhaps"}, field="distinct", words="must be true or false"),
        Invalid({}, [A, TEXT_ID], field="mode", words="Column 'id' is INTEGER in"),
        Invalid({"mode": "by_position"}, [A, TEXT_ID], field="mode", words="by position, they must be as many"),
    ],
    failing=[
        Failing({}, [A, TEXT_ID], words=["'id' is INTEGER in 'Node 1'", "'id' is VARCHAR in 'Node 2'", "Cast one of them"]),
    ],
    normalised=[
        ({"mode": "union", "x": 1}, {"mode": "by_name", "x": 1}),
        ({"mode": "By position"}, {"mode": "by_position"}),
        ({}, {}),
    ],
)
