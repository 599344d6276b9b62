"""`df`, and DataFrames as outputs, with the pandas that people use: types, gaps, indexes, names, and the shape of what is no table."""

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from brokoli_site.common.errors import NodeError
from tests.contracts.case import Given
from tests.contracts.workshop import Outcome, Workshop

IMPORTS = "import datetime as dt, decimal\nimport numpy as np, pandas as pd\n"
NUMBER = UUID("11111111-2222-3333-4444-555555555555")
TYPES = f"""SELECT * FROM (VALUES
    (1::BIGINT, 5::INTEGER, 'a', true, 1.25::DECIMAL(10, 2), DATE '2024-01-01', TIMESTAMP '2024-01-01 10:00:00', TIMESTAMPTZ '2024-01-01 10:00:00+00',
     [1, 2], TIME '10:00:00', 1.5::DOUBLE, UUID '{NUMBER}', 'b'::BLOB, INTERVAL 3 DAY, 200::UTINYINT),
    (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
) t(id, small, text, flag, price, day, moment, zoned, list, clock, real, uuid, bytes, span, tiny)"""
KINDS = [
    *("BIGINT", "INTEGER", "VARCHAR", "BOOLEAN", "DECIMAL(10,2)", "DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"),
    *("INTEGER[]", "TIME", "DOUBLE", "UUID", "BLOB", "INTERVAL", "UTINYINT"),
]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    made = Workshop(tmp_path_factory.mktemp("frames"))
    yield made
    made.close()


def run(workshop: Workshop, script: str, *inputs: str) -> Outcome:
    return workshop.run("code", Given({"script": f"{IMPORTS}{script}"}, list(inputs)))


def types(outcome: Outcome) -> list[str]:
    return [column.type for column in outcome.schema]


@pytest.mark.parametrize(
    "script",
    [
        "output_data = df",
        "df['id'] = df['id'] * 1\noutput_data = df.copy()",
        "output_data = {'columns': list(df.columns), 'rows': df.to_dict('records')}",  # as the SDK's scripts give a DataFrame
    ],
    ids=["frame", "changed", "records"],
)
def test_every_type_comes_back_through_a_frame(workshop: Workshop, script: str) -> None:
    outcome = run(workshop, script, TYPES)
    assert types(outcome) == KINDS
    first, second = outcome.rows
    assert first[:6] == (1, 5, "a", True, Decimal("1.25"), dt.date(2024, 1, 1))
    assert first[8:] == ([1, 2], dt.time(10), 1.5, NUMBER, b"b", dt.timedelta(days=3), 200)
    assert second == (2, *[None] * 14)


def test_no_row_keeps_the_types(workshop: Workshop) -> None:
    outcome = run(workshop, "output_data = df[df['id'] > 9]", TYPES)
    assert (types(outcome), outcome.rows) == (KINDS, [])


NAMED = "pd.DataFrame({'k': ['a', 'b', 'a'], 'j': [1, 1, 2], 'v': [1, 2, 3]})"
# What a script gives, and the types and rows that are stored.
GIVEN: dict[str, tuple[str, list[str], list[tuple[Any, ...]]]] = {
    "nullable integers": ("pd.DataFrame({'a': pd.array([1, None], dtype='Int64')})", ["BIGINT"], [(1,), (None,)]),
    "nullable booleans": ("pd.DataFrame({'a': pd.array([True, None], dtype='boolean')})", ["BOOLEAN"], [(True,), (None,)]),
    "texts with gaps": ("pd.DataFrame({'a': ['x', None, np.nan, pd.NA]})", ["VARCHAR"], [("x",), (None,), (None,), (None,)]),
    "NaN is no value": ("pd.DataFrame({'a': [1.5, np.nan]})", ["DOUBLE"], [(1.5,), (None,)]),
    "NaN in rows, too": ("[{'a': 1.5}, {'a': float('nan')}, {'a': None}]", ["DOUBLE"], [(1.5,), (None,), (None,)]),
    "what pandas puts into records": (
        "[{'d': 'x', 't': pd.Timestamp(2024, 1, 1), 'i': 1, 'b': True}, {'d': np.nan, 't': pd.NaT, 'i': pd.NA, 'b': np.nan}]",
        ["VARCHAR", "TIMESTAMP", "BIGINT", "BOOLEAN"],
        [("x", dt.datetime(2024, 1, 1), 1, True), (None,) * 4],  # noqa: DTZ001 - the column has no zone
    ),
    "numpy's own values": (
        "[{'a': np.int64(1), 'b': np.bool_(True), 'c': np.str_('x'), 'd': np.datetime64('2024-01-01', 'D')}, {'a': 2, 'b': False, 'c': 'y'}]",
        ["BIGINT", "BOOLEAN", "VARCHAR", "DATE"],
        [(1, True, "x", dt.date(2024, 1, 1)), (2, False, "y", None)],
    ),
    "categories": ("pd.DataFrame({'a': pd.Categorical(['x', None]), 'b': pd.Categorical([1, 2])})", ["VARCHAR", "BIGINT"], [("x", 1), (None, 2)]),
    "decimals": ("pd.DataFrame({'a': [decimal.Decimal('1.20'), None]})", ["DECIMAL(3,2)"], [(Decimal("1.20"),), (None,)]),
    "nested": (
        "pd.DataFrame({'a': [[1, 2], None], 'b': [{'x': 1}, {'y': 'z'}]})",
        ["BIGINT[]", "STRUCT(x BIGINT, y VARCHAR)"],
        [([1, 2], {"x": 1, "y": None}), (None, {"x": None, "y": "z"})],
    ),
    "periods": ("pd.DataFrame({'a': pd.period_range('2024-01', periods=2, freq='M')})", ["VARCHAR"], [("2024-01",), ("2024-02",)]),
    "spans": ("pd.DataFrame({'a': pd.to_timedelta([1, None], unit='h')})", ["INTERVAL"], [(dt.timedelta(hours=1),), (None,)]),
    "mixed": ("pd.DataFrame({'a': [1, 'x', None]})", ["VARCHAR"], [("1",), ("x",), (None,)]),
    "an index with a name is data": (f"{NAMED}.groupby('k')[['v']].sum()", ["VARCHAR", "BIGINT"], [("a", 4), ("b", 2)]),
    "so are several": (
        f"{NAMED}.groupby(['k', 'j']).sum()",
        ["VARCHAR", "BIGINT", "BIGINT"],
        [("a", 1, 1), ("a", 2, 3), ("b", 1, 2)],
    ),
    "one without is not": (f"{NAMED}[['v']].iloc[1:]", ["BIGINT"], [(2,), (3,)]),
    "numbers for names": ("pd.DataFrame([[1, 2]])", ["BIGINT", "BIGINT"], [(1, 2)]),
    "a pivot": ("pd.DataFrame({'a': [1], 'b': ['x'], 'v': [5]}).pivot(index='a', columns='b', values='v')", ["BIGINT", "BIGINT"], [(1, 5)]),
    "nothing in a column": ("pd.DataFrame({'a': pd.Series([], dtype='int64')})", ["BIGINT"], []),
}


@pytest.mark.parametrize(("given", "kinds", "rows"), GIVEN.values(), ids=GIVEN.keys())
def test_what_is_stored(workshop: Workshop, given: str, kinds: list[str], rows: list[tuple[Any, ...]]) -> None:
    outcome = run(workshop, f"output_data = {given}")
    assert (types(outcome), outcome.rows) == (kinds, rows)


def test_a_zone_is_kept_as_the_moment(workshop: Workshop) -> None:
    script = "output_data = pd.DataFrame({'a': pd.to_datetime(['2024-01-01 10:00', '2024-07-01 10:00', None]).tz_localize('Europe/Berlin')})"
    outcome = run(workshop, script)
    assert types(outcome) == ["TIMESTAMP WITH TIME ZONE"]
    assert workshop.rows(f"SELECT (a AT TIME ZONE 'UTC')::VARCHAR FROM {outcome.sql}") == [
        ("2024-01-01 09:00:00",),
        ("2024-07-01 08:00:00",),
        (None,),
    ]


# What is refused, and the words that say why.
REFUSED = {
    "two columns of one name": ("pd.DataFrame([[1, 2]], columns=['a', 'a'])", "more than one column 'a'"),
    "levels": (f"{NAMED}.groupby('k').agg({{'v': ['sum', 'mean']}})", "have several levels. Give them one"),
    "an index called as a column": ("pd.DataFrame({'k': [1]}, index=pd.Index([7], name='k'))", "index is called 'k', as one of its columns is"),
    "no columns": ("pd.DataFrame()", "has no columns"),
    "a single column": ("pd.Series([1], name='v')", r"of type Series.*to_frame\(\)"),
    "an array": ("np.array([[1, 2]])", "of type ndarray"),
    "complex numbers": ("pd.DataFrame({'a': [1 + 2j]})", "Column 'a', row 1: a value of type complex"),
    "objects": ("pd.DataFrame({'a': [object()]})", "Column 'a', row 1: a value of type object"),
}


@pytest.mark.parametrize(("given", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused(workshop: Workshop, given: str, words: str) -> None:
    with pytest.raises(NodeError, match=words):
        run(workshop, f"output_data = {given}")


def test_two_thousand_columns(workshop: Workshop) -> None:
    wide = "SELECT " + ", ".join(f"{number} AS c{number}" for number in range(2_000))
    outcome = run(workshop, "df['c0'] = df['c0'] + 1\noutput_data = df", wide)
    assert len(outcome.columns) == 2_000
    assert outcome.rows[0][:2] == (1, 1)


def test_times_in_rows(workshop: Workshop, tmp_path: Path) -> None:
    """Made by numpy, and by Arrow where numpy has no such year; with gaps, zones and nanoseconds."""
    sql = """SELECT * FROM (VALUES
        (TIMESTAMP '2024-01-01 10:00:00.123456', TIMESTAMPTZ '2024-01-01 10:00:00+00', TIMESTAMP '0001-01-01', TIMESTAMP_NS '2024-01-01 10:00:00.1'),
        (NULL, NULL, TIMESTAMP '9999-12-31 23:59:59.999999', NULL)) t(plain, zoned, far, fine)"""
    script = "output_data = [{'a': repr([row[name] for row in rows])} for name in columns]"
    plain, zoned, far, fine = (row[0] for row in run(workshop, script, sql).rows)
    assert plain == "[datetime.datetime(2024, 1, 1, 10, 0, 0, 123456), None]"
    assert "datetime.datetime(2024, 1, 1, 10, 0, tzinfo=" in zoned
    assert zoned.endswith("None]")
    assert far == "[datetime.datetime(1, 1, 1, 0, 0), datetime.datetime(9999, 12, 31, 23, 59, 59, 999999)]"
    assert fine == "[datetime.datetime(2024, 1, 1, 10, 0, 0, 100000), None]"


def test_whole_numbers_with_gaps_in_records_stay_whole(workshop: Workshop) -> None:
    script = "output_data = {'columns': ['id', 'small'], 'rows': df[['id', 'small']].to_dict('records')}"
    assert types(run(workshop, script, TYPES)) == ["BIGINT", "INTEGER"]
