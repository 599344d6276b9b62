"""`code`."""

import datetime as dt
from decimal import Decimal

from tests.contracts.case import Cases, Failing, Given, Invalid, Valid
from tests.contracts.workshop import Workshop

ORDERS = "SELECT * FROM (VALUES (1, 'Ann', 5.5::DOUBLE), (2, NULL, 7.0), (3, 'Zoë', NULL)) t(id, name, amount)"
TYPES = """SELECT 1::TINYINT AS small, 2.50::DECIMAL(6, 2) AS price, 0.1::FLOAT AS real, DATE '2024-02-29' AS day, true AS yes, 'ab'::BLOB AS bytes,
    TIMESTAMP '2024-03-01 12:00:00.5' AS at, TIMESTAMPTZ '2024-03-01 12:00:00+00' AS zoned, TIME '10:11:12' AS time, [1, NULL] AS list,
    {'a': 1, 'b': 'x'} AS object, uuid '11111111-2222-3333-4444-555555555555' AS uuid, INTERVAL 3 DAY AS span, CAST(NULL AS INTEGER) AS none"""


def _typical(workshop: Workshop, table: str) -> Given:
    return Given({"script": "output_data = table.slice(0)"}, [table])


def _slow(workshop: Workshop) -> Given:
    return Given({"script": "import time\nwhile True: time.sleep(60)"}, [ORDERS])


SAME = 'output_data = {"columns": columns, "rows": rows}'

BOTH = """a, b = inputs["node1"], inputs["Node 2"]
output_data = [{"n": len(inputs), "a": a.rows[0]["id"], "b": b.table.num_rows, "c": b.columns}]"""
PRINTED = """import sys
print("one\\ntwo")
for line in ("#WARNING: w", "#ERROR: e", "#PROGRESS:40", "plain"):
    print(line, file=sys.stderr)
output_data = table"""

CASES = Cases(
    typical=_typical,
    slow=_slow,
    valid=[
        Valid(
            {"script": SAME}, [ORDERS], types=["INTEGER", "VARCHAR", "DOUBLE"], rows=[(1, "Ann", 5.5), (2, None, 7.0), (3, "Zoë", None)], name="rows"
        ),
        Valid({"script": SAME}, [f"SELECT * FROM ({ORDERS}) WHERE false"], types=["INTEGER", "VARCHAR", "DOUBLE"], rows=[], name="no rows"),
        Valid(
            {"script": SAME},
            [TYPES],
            types=[
                *("TINYINT", "DECIMAL(6,2)", "FLOAT", "DATE", "BOOLEAN", "BLOB", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "TIME", "INTEGER[]"),
                *("STRUCT(a INTEGER, b VARCHAR)", "UUID", "INTERVAL", "INTEGER"),
            ],
            name="every type keeps its type",
        ),
        Valid({"script": "output_data = table"}, [ORDERS], columns=["id", "name", "amount"], name="the input itself"),
        Valid({"script": "output_data = table.filter(table['id'].is_valid()).select(['id'])"}, [ORDERS], rows=[(1,), (2,), (3,)], name="Arrow"),
        Valid(
            {"script": 'output_data = [{"a": 1, "b": [1, 2]}, {"a": 2.5, "c": None}]'},
            columns=["a", "b", "c"],
            types=["DOUBLE", "BIGINT[]", "VARCHAR"],
            rows=[(1.0, [1, 2], None), (2.5, None, None)],
            name="no input, a list of dicts",
        ),
        Valid({"script": 'output_data = {"columns": ["a", "b"], "rows": [[1, "x"], (2, None)]}'}, rows=[(1, "x"), (2, None)], name="rows as lists"),
        Valid({"script": 'output_data = {"columns": ["n"], "rows": [1, 2]}'}, rows=[(1,), (2,)], name="one column of values"),
        Valid(
            {"script": f"output_data = [{{'n': {2**70}, 'd': 1}}, {{'n': 1, 'd': 2}}]"},
            types=["DECIMAL(38,0)", "BIGINT"],
            rows=[(Decimal(2**70), 1), (Decimal(1), 2)],
            name="whole numbers beyond 64 bits",
        ),
        Valid(
            {"script": 'output_data = [{"a": 1}, {"a": "x"}, {"a": True}, {"a": {"b": 1}}]'},
            types=["VARCHAR"],
            rows=[("1",), ("x",), ("true",), ('{"b": 1}',)],
            logged=["Column 'a' mixes values of types bool, dict, int, str"],
            name="mixed types are text",
        ),
        Valid(
            {"script": 'output_data = {"columns": ["a"], "rows": [{"a": 1, "b": 2}]}'},
            rows=[(1,)],
            logged=["left out: b"],
            name="values of no column",
        ),
        Valid(
            {"script": "import datetime as dt\noutput_data = [{**row, 'day': dt.datetime(2024, 1, 1, 5)} for row in rows]"},
            ["SELECT DATE '2024-01-01' AS day"],
            types=["TIMESTAMP"],
            rows=[(dt.datetime(2024, 1, 1, 5),)],  # noqa: DTZ001 - the column has no zone
            name="a time of day is not lost in a column of dates",
        ),
        Valid(
            {"script": BOTH},
            [ORDERS, "SELECT 5 AS x FROM range(4)"],
            rows=[(2, 1, 4, ["x"])],
            name="inputs by id and by name",
        ),
        Valid(
            {"script": 'output_data = [{"a": config["mine"], "b": params["x"], "c": parameters["x"], "d": "${param.x}"}]', "mine": "${param.x}!"},
            rows=[("7!", 7, 7, "${param.x}")],
            params={"x": 7},
            name="config and params, and the script as it stands",
        ),
        Valid(
            {"script": PRINTED},
            [ORDERS],
            logged=["info: one", "info: two", "warning: w", "error: e", "progress: 0.4", "warning: plain"],
            name="what is printed",
        ),
        Valid(
            {"script": 'if __name__ == "__main__":\n    output_data = table\n    import sys\n    sys.exit()'},
            [ORDERS],
            name="a script as scripts are written",
        ),
        Valid(
            {"script": "def f():\n    return [dict(r) for r in rows]\noutput_data = f()", "language": "Python"}, [ORDERS], name="rows in a function"
        ),
        Valid({"script": "rows = [{'id': 1}]\noutput_data = rows"}, [ORDERS], rows=[(1,)], name="a name of its own"),
        Valid(
            {"script": "output_data = [{'id': row['id'] * 1.0} for row in rows]"},
            [ORDERS],
            types=["DOUBLE"],
            name="numbers that became floats stay so",
        ),
        Valid({"script": SAME}, columns=["_empty"], rows=[], name="neither columns nor rows"),
    ],
    invalid=[
        Invalid({}, field="script", words="is missing"),
        Invalid({"script": "x = 1\nif x\n  pass"}, field="script", words="expected ':'", line=2, column=5),
        Invalid({"script": "return 5"}, field="script", words="'return' outside function", line=1, column=1),
        Invalid({"script": "x = '\0'"}, field="script", words="no valid Python"),
        Invalid({"script": "x = 1", "language": "ruby"}, field="language", words="must be 'python'"),
        Invalid({"script": "x = 1", "python_path": "/bin/python"}, field="python_path", words="none is allowed on this server"),
        Invalid({"script": "x = 1", "max_memory_mb": 1}, field="max_memory_mb", words="64"),
    ],
    failing=[
        Failing({"script": "\n\nx = rows[0]['nam']"}, [ORDERS], words=["Line 3 of the script: KeyError: 'nam'"]),
        Failing({"script": "def f():\n    raise ValueError('bad')\nf()"}, [ORDERS], words=["Line 2 of the script: ValueError: bad"]),
        Failing({"script": "import json\njson.loads('{')"}, words=["Line 2 of the script: JSONDecodeError"]),
        Failing({"script": "open('missing.txt')"}, words=["Line 1 of the script: FileNotFoundError"]),
        Failing({"script": "x = 1"}, [ORDERS], words=["did not set output_data"]),
        Failing({"script": "import sys; sys.exit(3)"}, [ORDERS], words=["Line 1 of the script", "sys.exit(3)"]),
        Failing({"script": "import sys; sys.exit()"}, [ORDERS], words=["did not set output_data before it left"]),
        Failing({"script": "import os, sys; print('last words', file=sys.stderr); os._exit(0)"}, [ORDERS], words=["status 0", "last words"]),
        Failing({"script": "import os; os.kill(os.getpid(), 11)"}, [ORDERS], words=["signal SIGSEGV"]),
        Failing({"script": "output_data = 5"}, [ORDERS], words=["output_data is of type int"]),
        Failing({"script": "output_data = [{'a': object()}]"}, words=["Column 'a', row 1: a value of type object cannot be stored"]),
        Failing({"script": 'output_data = {"columns": ["a", "A"], "rows": []}'}, words=["more than one column 'A'"]),
        Failing({"script": 'output_data = {"columns": ["a"], "rows": [[1, 2]]}'}, words=["Row 1 of output_data has 2 values for 1 columns"]),
        Failing({"script": 'output_data = {"columns": ["a"]}'}, words=["has no 'rows'"]),
        Failing({"script": "output_data = inputs['nobody'].rows"}, [ORDERS], words=["KeyError", "nobody", "node1"]),
    ],
    normalised=[
        ({"script": "x", "language": "Python3"}, {"script": "x", "language": "python"}),
        ({"script": "x", "package": {"a": 1}}, {"script": "x", "package": {"a": 1}}),
    ],
)
