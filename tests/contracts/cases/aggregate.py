"""`aggregate`."""

from typing import Any

from tests.contracts.case import Cases, Failing, Given, Invalid, Valid
from tests.contracts.workshop import Workshop

ORDERS = "SELECT * FROM (VALUES ('DE', 1, 2.0::DOUBLE, 'x'), ('US', 2, 3.0, 'y'), ('DE', 3, NULL, 'x'), (NULL, 4, 5.0, NULL)) t(land, id, price, tag)"
HASHES = 25
MILLION = f"SELECT {', '.join(f'hash(i, {number}) AS h{number}' for number in range(HASHES))} FROM range(1_000_000) t(i)"


def groups(*group_by: str, **fields: Any) -> dict[str, Any]:
    """`fields`: alias to (function, column)."""
    found = [{"column": name, "function": function, "alias": alias} for alias, (function, name) in fields.items()]
    return {"expression_version": 1, "group_by": list(group_by), "agg_fields": found}


def _typical(workshop: Workshop, table: str) -> Given:
    """Groups of one row each: all columns make the key."""
    return Given({"group_by": [one.name for one in workshop.table(table).schema]}, [table])


def _slow(workshop: Workshop) -> Given:
    """Each function of each column once: what is asked for twice is computed once."""
    fields = {f"{function}{number}": (function, f"h{number}") for number in range(HASHES) for function in ("median", "count_distinct")}
    return Given(groups(**fields), [MILLION])


EVERY = ("sum", "count", "avg", "min", "max", "median", "stddev", "first", "last", "count_distinct")
CASES = Cases(
    typical=_typical,
    slow=_slow,
    ordered=False,
    valid=[
        Valid(
            groups("land", orders=("count", "*"), total=("sum", "price"), first_id=("first", "id")),
            [ORDERS],
            columns=["land", "orders", "total", "first_id"],
            types=["VARCHAR", "BIGINT", "DOUBLE", "INTEGER"],
            rows=[("DE", 2, 2.0, 1), ("US", 1, 3.0, 2), (None, 1, 5.0, 4)],
            logged=["info: 4 rows in 3 groups"],
            name="groups in order, null last",
        ),
        Valid(
            {"group_by": "tag", "aggregations": [{"column": "id", "function": name} for name in EVERY]},
            [ORDERS],
            columns=["tag", *(f"{name}_id" for name in EVERY)],
            rows=[
                ("x", 4, 2, 2.0, 1, 3, 2.0, 1.4142135623730951, 1, 3, 2),
                ("y", 2, 1, 2.0, 2, 2, 2.0, None, 2, 2, 1),
                (None, 4, 1, 4.0, 4, 4, 4.0, None, 4, 4, 1),
            ],
            name="every function",
        ),
        Valid(groups(rows=("count", "*"), prices=("count", "price")), [ORDERS], rows=[(4, 3)], name="one group of all"),
        Valid(groups(total=("sum", "n")), ["SELECT 9223372036854775807 AS n FROM range(1)"], types=["BIGINT"], name="sums are stored in 64 bits"),
        Valid(groups("land"), [ORDERS], rows=[("DE",), ("US",), (None,)], name="groups alone"),
        Valid(groups("land", n=("mean", "price")), ["SELECT 'x' AS land, 1.0 AS price WHERE false"], rows=[], name="no rows, no groups"),
        Valid(groups("${param.by}", n=("count", "*")), [ORDERS], params={"by": "tag"}, columns=["tag", "n"], name="params"),
    ],
    invalid=[
        Invalid({}, field="agg_fields", words="is empty"),
        Invalid(groups("", n=("count", "*")), field="group_by", words="", at_save=False),
        Invalid(groups("land", n=("total", "price")), field="agg_fields.0.function", words="must be"),
        Invalid(groups("land", n=("sum", "*")), field="agg_fields.0.column", words="sum needs a column"),
        Invalid(groups("lnad", n=("count", "*")), [ORDERS], field="group_by", words="Did you mean 'land'?"),
        Invalid(groups("land", n=("sum", "prise")), [ORDERS], field="agg_fields.0.column", words="Did you mean 'price'?"),
        Invalid(groups("land", land=("sum", "price")), [ORDERS], field="agg_fields", words="Two columns would be called 'land'"),
        Invalid({**groups("land"), "expression_version": 0}, field="expression_version", words="must be 1"),
    ],
    failing=[Failing(groups(n=("sum", "tag")), [ORDERS], words=["x"])],
    normalised=[({"aggregations": [], "group_by": "a"}, {"agg_fields": [], "group_by": "a"})],
)
