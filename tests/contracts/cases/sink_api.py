"""`sink_api`."""

import json

from pipelines.expressions import literal
from tests.contracts import web
from tests.contracts.case import Cases, Failing, Given, Invalid, Valid
from tests.contracts.workshop import Outcome, Workshop

ORDERS = "SELECT * FROM (VALUES (1, 'Ann', 5.5::DOUBLE), (2, NULL, 7.0), (3, 'Zoë', NULL)) t(id, name, amount)"
TYPES = """SELECT 9007199254740993::BIGINT AS large, 5::BIGINT AS small, 1.50::DECIMAL(6, 2) AS price, 'nan'::DOUBLE AS none,
    DATE '2024-02-29' AS day,
    TIMESTAMP '2024-03-01 12:00:00.5' AS at, TIMESTAMPTZ '2024-03-01 12:00:00+00' AS zoned,
    'ab'::BLOB AS bytes, {'a': [1, NULL]} AS nested, true AS yes"""


def _start(workshop: Workshop) -> None:
    web.server()
    web.stored.clear()


def _typical(workshop: Workshop, table: str) -> Given:
    _start(workshop)
    workshop.written_types = {row[0]: row[1] for row in workshop.maker.execute(f"DESCRIBE {table}").fetchall()}  # type: ignore[attr-defined]
    return Given({"url": web.URL + "/store", "batch_size": 20_000}, [table])


def _read_back(workshop: Workshop) -> str:
    path = workshop.folder.parent / "stored.jsonl"
    with path.open("w") as file:
        for batch in web.stored:
            file.writelines(json.dumps(row) + "\n" for row in json.loads(batch))
    columns = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in workshop.written_types.items())  # type: ignore[attr-defined]
    return f"FROM read_json('{path}', format='newline_delimited', columns={{{columns}}})"


def _slow(workshop: Workshop) -> Given:
    web.server()
    return Given({"url": web.URL + "/stall"}, [ORDERS])


def _exact(outcome: Outcome, workshop: Workshop) -> None:
    assert json.loads(web.stored[0]) == [
        {
            "large": "9007199254740993",
            "small": 5,
            "price": "1.50",
            "none": None,
            "day": "2024-02-29",
            "at": "2024-03-01T12:00:00.500000",
            "zoned": "2024-03-01T12:00:00.000000Z",
            "bytes": "YWI=",
            "nested": {"a": [1, None]},
            "yes": True,
        }
    ]


def _batches(outcome: Outcome, workshop: Workshop) -> None:
    assert [json.loads(batch) for batch in web.stored] == [
        {"events": [{"id": 1, "name": "Ann", "amount": 5.5}, {"id": 2, "name": None, "amount": 7.0}], "n": 2, "of": "The pipeline"},
        {"events": [{"id": 3, "name": "Zoë", "amount": None}], "n": 1, "of": "The pipeline"},
    ]


CASES = Cases(
    typical=_typical,
    slow=_slow,
    read_back=_read_back,
    valid=[
        Valid({"url": web.URL + "/store"}, [TYPES], before=_start, after=_exact, name="every type"),
        Valid(
            {"url": web.URL + "/store", "batch_size": 2, "body_template": '{"events": {{rows}}, "n": ${count}, "of": "{{ pipeline }}"}'},
            [ORDERS],
            logged=["Batch 1 of 2: 2 rows accepted (200).", "Batch 2 of 2: 1 row accepted (200).", "Sent 3 rows"],
            before=_start,
            after=_batches,
            name="batches by a template",
        ),
        Valid(
            {"url": web.URL + "/store", "batch_size": 2, "body_template": {"events": "{{rows}}", "n": "{{count}}", "of": "{{pipeline}}"}},
            [ORDERS],
            before=_start,
            after=_batches,
            name="a template as an object",
        ),
    ],
    invalid=[
        Invalid({}, field="url", words="is missing"),
        Invalid({"url": "https://example.org", "method": "GET"}, field="method", words="must be one of POST"),
        Invalid({"url": "https://example.org", "batch_size": 0}, field="batch_size", words="1"),
        Invalid({"url": "https://example.org", "body_template": "{}"}, field="body_template", words="has no {{rows}}"),
        Invalid({"url": "https://example.org", "body_template": '[{{rows}}, "${param.a}"]'}, field="body_template", words="holds ${param.a}"),
        Invalid({"url": "https://example.org", "body_template": "{{rows}} {{x}}"}, field="body_template", words="names x"),
        Invalid({"url": "https://example.org", "body_template": '{"a": {{rows}}'}, field="body_template", words="is not JSON"),
        Invalid({"url": "https://example.org", "body_template": "{{row}}"}, field="body_template", words="batch_size of 1"),
        Invalid({"url": "https://example.org", "headers": {"Idempotency-Key": "x"}}, field="headers", words="the server's own"),
    ],
    failing=[
        Failing({"url": web.URL + "/status?code=422"}, [ORDERS], words=["No batch was accepted. Batch 1 of 1", "422"], before=_start),
    ],
)
