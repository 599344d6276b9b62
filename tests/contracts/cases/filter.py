"""`filter`."""

from typing import Any

from tests.contracts.case import Cases, Failing, Given, Invalid, Valid
from tests.contracts.trees import TRUE, column, concat, literal, op
from tests.contracts.workshop import Workshop

PEOPLE = "SELECT * FROM (VALUES (1, 'Ann', true, {'age': 30}), (2, NULL, false, {'age': 9}), (3, 'Cy', NULL, NULL)) t(id, name, member, facts)"
NAMELESS = op("is_null", arg=column("name"))
MANY = "SELECT i AS id FROM range(20_000_000) t(i)"


def where(tree: Any) -> dict[str, Any]:
    return {"expression_version": 1, "predicate": tree}


def _typical(workshop: Workshop, table: str) -> Given:
    return Given(where(op("or", args=[TRUE, op("is_null", arg=column(workshop.table(table).schema[0].name))])), [table])


def _slow(workshop: Workshop) -> Given:
    return Given(where(op("or", args=[op("eq", concat(number, column("id")), "x") for number in range(15)])), [MANY])


def _keeps(tree: Any, *ids: int, name: str) -> Valid:
    return Valid(where(tree), [PEOPLE], columns=["id", "name", "member", "facts"], rows=None, after=_ids(ids), name=name)


def _ids(ids: tuple[int, ...]) -> Any:
    def after(outcome: Any, workshop: Workshop) -> None:
        assert tuple(row[0] for row in outcome.rows) == ids

    return after


CASES = Cases(
    typical=_typical,
    slow=_slow,
    valid=[
        Valid(where(op("gte", column("id"), 2)), [PEOPLE], logged=["info: Kept 2 of 3 rows"], name="says what it kept"),
        _keeps(op("eq", column("NAME"), "Ann"), 1, name="eq"),
        _keeps(op("neq", column("name"), "Ann"), 3, name="neq does not find null"),
        _keeps(op("not", arg=op("eq", column("name"), "Ann")), 2, 3, name="not of a comparison with null"),
        _keeps(op("is_null", arg=column("name")), 2, name="is_null"),
        _keeps(column("member"), 1, name="a column of true and false"),
        _keeps(op("not", arg=column("member")), 2, 3, name="not of it"),
        _keeps(op("gt", column("facts", "age"), 18), 1, name="a field"),
        _keeps(
            op("and", args=[op("lt", column("id"), 3), op("or", args=[column("member"), op("is_null", arg=column("name"))])]), 1, 2, name="and, or"
        ),
        _keeps(literal(None), name="null is false"),
        _keeps(op("eq", None, None), name="null is not null"),
        _keeps(op("case_when", branches=[{"when": op("eq", column("id"), 3), "then": TRUE}]), 3, name="case_when"),
        Valid(where(op("eq", column("id"), "${param.id}")), [PEOPLE], params={"id": 2}, logged=["Kept 1 of 3"], name="params"),
    ],
    invalid=[
        Invalid({}, field="predicate", words="is missing"),
        Invalid(where("id > 1"), field="predicate", words="An expression is an object"),
        Invalid(where({"op": "equals"}), field="predicate.op", words="There is no operator 'equals'"),
        Invalid(where(op("eq", column("nam"), 1)), [PEOPLE], field="predicate.left.path", words="Did you mean 'name'?"),
        Invalid(where(column("id")), [PEOPLE], field="predicate", words="must be true or false, and this is a number"),
        Invalid(where(column("facts", "age")), [PEOPLE], field="predicate", words="must be true or false, and this is INTEGER"),
        Invalid(where(literal("yes")), field="predicate", words="this is a text"),
        Invalid(where(op("eq", op("multiply", column("name"), 2), 4)), [PEOPLE], field="predicate.left.left", words="'multiply' works with numbers"),
        Invalid({**where(TRUE), "expression_version": "1"}, field="expression_version", words="must be 1"),
    ],
    failing=[
        Failing(where(op("gt", op("divide", 1, op("subtract", column("id"), 2)), 0)), [PEOPLE], words=["Field 'predicate.left': a division by zero"]),
        Failing(where(op("eq", column("colour"), 1)), [PEOPLE], words=["Field 'predicate.left.path'", "'colour'", "id, name"]),
    ],
)
