"""`join`."""

import datetime as dt

from pipelines.expressions import quote
from tests.contracts.case import Cases, Failing, Given, Invalid, Valid
from tests.contracts.workshop import Workshop

PEOPLE = "SELECT * FROM (VALUES (1, 'Ann', 10), (2, 'Bob', 20), (NULL, 'Cy', 30)) t(id, name, age)"
CITIES = "SELECT * FROM (VALUES (1::BIGINT, 'Rome', 'IT'), (3, 'Oslo', 'NO'), (NULL, 'Nowhere', NULL)) t(id, name, land)"
ORDERS = "SELECT * FROM (VALUES (7, 1), (8, 1), (9, 4)) t(number, person)"
DAYS = "SELECT DATE '2024-02-29' AS day, 1 AS a"
MOMENTS = "SELECT TIMESTAMP '2024-02-29 00:00:00' AS moment, 2 AS b"
TEXTS = "SELECT '1' AS id"
MANY = "SELECT i AS id FROM range(200_000) t(i)"
BOTH = ["id", "name", "age", "right_name", "land"]


def _typical(workshop: Workshop, table: str) -> Given:
    """Every row of the left stays, whether it has a partner or not."""
    first = workshop.table(table).schema[0]
    key = quote(first.name)
    return Given(
        {"join_type": "left", "left_key": first.name},
        [table, f"SELECT CAST(NULL AS {first.type}) AS {key} UNION ALL (SELECT {key} FROM ({table}) LIMIT 1)"],
    )


def _slow(workshop: Workshop) -> Given:
    return Given({"join_type": "cross"}, [MANY, "SELECT i AS other FROM range(200_000) t(i)"])


def _on(kind: str, **more: object) -> dict[str, object]:
    return {"join_type": kind, "left_key": "id", "right_key": "id", **more}


CASES = Cases(
    typical=_typical,
    slow=_slow,
    ordered=False,
    valid=[
        Valid(_on("inner"), [PEOPLE, CITIES], columns=BOTH, rows=[(1, "Ann", 10, "Rome", "IT")], name="inner"),
        Valid({"left_key": "id"}, [PEOPLE, CITIES], columns=BOTH, rows=[(1, "Ann", 10, "Rome", "IT")], name="one key for both"),
        Valid(
            _on("left"),
            [PEOPLE, CITIES],
            columns=BOTH,
            types=["INTEGER", "VARCHAR", "INTEGER", "VARCHAR", "VARCHAR"],
            rows=[(1, "Ann", 10, "Rome", "IT"), (2, "Bob", 20, None, None), (None, "Cy", 30, None, None)],
            ordered=False,
            name="left",
        ),
        Valid(
            _on("right"),
            [PEOPLE, CITIES],
            types=["BIGINT", "VARCHAR", "INTEGER", "VARCHAR", "VARCHAR"],
            rows=[(1, "Ann", 10, "Rome", "IT"), (3, None, None, "Oslo", "NO"), (None, None, None, "Nowhere", None)],
            ordered=False,
            name="right",
        ),
        *(
            Valid(
                _on(kind),
                [PEOPLE, CITIES],
                columns=BOTH,
                rows=[
                    (1, "Ann", 10, "Rome", "IT"),
                    (2, "Bob", 20, None, None),
                    (3, None, None, "Oslo", "NO"),
                    (None, "Cy", 30, None, None),
                    (None, None, None, "Nowhere", None),
                ],
                ordered=False,
                name=kind,
            )
            for kind in ("full", "outer", "full_outer")
        ),
        Valid(_on("semi"), [PEOPLE, CITIES], columns=["id", "name", "age"], rows=[(1, "Ann", 10)], name="semi"),
        Valid(_on("anti"), [PEOPLE, CITIES], rows=[(2, "Bob", 20), (None, "Cy", 30)], ordered=False, name="anti"),
        Valid({"join_type": "cross"}, [ORDERS, DAYS], rows=[(n, p, dt.date(2024, 2, 29), 1) for n, p in ((7, 1), (8, 1), (9, 4))], name="cross"),
        Valid(
            {"join_type": "full", "left_key": "id", "right_key": "person"},
            [PEOPLE, ORDERS],
            columns=["id", "name", "age", "number", "person"],
            rows=[(1, "Ann", 10, 7, 1), (1, "Ann", 10, 8, 1), (2, "Bob", 20, None, None), (None, "Cy", 30, None, None), (None, None, None, 9, 4)],
            ordered=False,
            name="keys of different names are both kept",
        ),
        Valid(
            {"left_key": ["id", "name"], "right_key": ["person", "who"]},
            [PEOPLE, "SELECT 1 AS person, 'Ann' AS who, true AS x UNION ALL SELECT 1, 'Bob', false"],
            rows=[(1, "Ann", 10, 1, "Ann", True)],
            name="two keys",
        ),
        Valid(
            {"left_key": "day", "right_key": "moment"},
            [DAYS, MOMENTS],
            rows=[(dt.date(2024, 2, 29), 1, dt.datetime(2024, 2, 29), 2)],  # noqa: DTZ001 - the column has no zone
            name="a date is its midnight",
        ),
        Valid(_on("inner", collision_policy="alias", right_alias="city"), [PEOPLE, CITIES], columns=["id", "name", "age", "city_name", "city_land"]),
        Valid({"left_key": "ID"}, [PEOPLE, CITIES], columns=BOTH, name="case of names does not matter"),
        Valid(
            {"left_key": "id"},
            ["SELECT 1 AS id, 'l' AS v, 'taken' AS right_v", "SELECT 1 AS id, 'r' AS V"],
            columns=["id", "v", "right_v", "right_right_V"],
            rows=[(1, "l", "taken", "r")],
            name="the prefix is repeated until the name is free",
        ),
        Valid({"left_key": "id"}, [PEOPLE, PEOPLE], rows=[(1, "Ann", 10, "Ann", 10), (2, "Bob", 20, "Bob", 20)], ordered=False, name="with itself"),
        Valid({"left_key": "id", "schema": {"columns": []}}, [PEOPLE, CITIES], columns=BOTH, name="the SDK's declared schema"),
    ],
    invalid=[
        Invalid({}, field="left_key", words="is missing; say which column joins the inputs"),
        Invalid({"left_key": "", "right_key": ""}, field="left_key", words="is missing"),
        Invalid({"left_key": ["id", "name"], "right_key": "id"}, field="right_key", words="names 1 columns and left_key 2"),
        Invalid({"left_key": ["id", ""]}, field="left_key", words="must not hold an empty name"),
        Invalid({"left_key": 7}, field="left_key", words="must be a list"),
        Invalid({"left_key": "id", "join_type": "sideways"}, field="join_type", words="must be 'inner', 'left'"),
        Invalid({"left_key": "id", "join_type": "cross"}, field="left_key", words="must be empty: a cross join"),
        Invalid({"left_key": "id", "collision_policy": "whatever"}, field="collision_policy", words="must be 'prefix', 'error' or 'alias'"),
        Invalid({"left_key": "id", "collision_policy": "alias"}, field="right_alias", words="is missing"),
        Invalid({"left_key": "nam", "right_key": "id"}, [PEOPLE, CITIES], field="left_key", words="Did you mean 'name'?"),
        Invalid({"left_key": "id", "right_key": "zzz"}, [PEOPLE, CITIES], field="right_key", words="no column 'zzz' in the right input. Columns: id"),
        Invalid(_on("inner"), [PEOPLE, TEXTS], field="left_key", words="'id' is INTEGER and right column 'id' is VARCHAR"),
        Invalid(_on("inner", collision_policy="error"), [PEOPLE, CITIES], field="collision_policy", words="Both inputs have a column 'name'"),
        Invalid(
            _on("inner", collision_policy="alias", right_alias="a"),
            ["SELECT 1 AS id, 2 AS a_x", "SELECT 1 AS id, 3 AS x"],
            field="right_alias",
            words="would become 'a_x', which is taken",
        ),
    ],
    failing=[
        Failing(_on("inner"), [PEOPLE, TEXTS], words=["'id' is INTEGER", "VARCHAR", "Cast one of them in a transform before the join"]),
    ],
    normalised=[
        ({"join_type": "Full Outer", "left_key": "id"}, {"join_type": "full", "left_key": "id"}),
        ({"join_type": "left_anti"}, {"join_type": "anti"}),
        ({"join_type": 3}, {"join_type": 3}),
    ],
)
