"""`notify`."""

import json

from tests.contracts import web
from tests.contracts.case import Cases, Failing, Given, Invalid, Valid
from tests.contracts.workshop import Outcome, Workshop

ORDERS = "SELECT i AS id FROM range(3) t(i)"


def _start(workshop: Workshop) -> None:
    web.server()
    web.stored.clear()


def _typical(workshop: Workshop, table: str) -> Given:
    web.server()
    return Given({"webhook_url": web.URL + "/ok"}, [table])


def _slow(workshop: Workshop) -> Given:
    web.server()
    return Given({"webhook_url": web.URL + "/stall"}, [ORDERS])


def _told(outcome: Outcome, workshop: Workshop) -> None:
    told = json.loads(web.stored[0])
    assert (told["message"], told["row_count"], told["run_id"]) == ("The pipeline: 3 rows, {{ unknown }}", 3, "run")


def _slacked(outcome: Outcome, workshop: Workshop) -> None:
    assert json.loads(web.stored[0]) == {"text": "<!here> The node", "channel": "#data"}


CASES = Cases(
    typical=_typical,
    slow=_slow,
    valid=[
        Valid(
            {"webhook_url": web.URL + "/store", "message": "{{pipeline}}: {{ rows }} rows, {{ unknown }}"},
            [ORDERS],
            columns=["id"],
            rows=[(0,), (1,), (2,)],
            logged=["Told webhook http://127.0.0.1"],
            before=_start,
            after=_told,
            name="webhook",
        ),
        Valid({"webhook_url": web.URL + "/store"}, before=_start, name="no input"),
        Valid(
            {"notify_type": "Slack", "webhook_url": web.URL + "/store", "message": "<!here> {{ node }}", "channel": "#data"},
            [ORDERS],
            before=_start,
            after=_slacked,
            name="Slack",
        ),
    ],
    invalid=[
        Invalid({}, field="webhook_url", words="is missing"),
        Invalid({"notify_type": "fax", "webhook_url": "https://example.org"}, field="notify_type", words="must be"),
        Invalid({"notify_type": "email"}, words="needs addresses in `to`"),
        Invalid({"notify_type": "email", "to": "a@example.org\nBcc: b@example.org"}, field="to", words="is not an email address"),
        Invalid({"webhook_url": "https://example.org", "message": "x" * 5000}, field="message", words="4000"),
    ],
    failing=[
        Failing({"webhook_url": web.URL + "/status?code=404"}, [ORDERS], words=["Telling webhook http://127.0.0.1", "404"], before=_start),
    ],
)
