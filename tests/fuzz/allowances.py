"""What the fuzz foresees, each with its reason. Whatever is not named here is a defect."""

from typing import Any

from schemathesis import Case, Response
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.openapi.checks import RejectedPositiveData

# Not asked at all.
NOT_FIRED = {
    "GET /api/ws": "a WebSocket: `tests/security/test_event_socket.py` and `tests/processes/test_events.py` ask it",
}

# Who has no credentials is accepted with these alone.
FOR_STRANGERS = {
    "GET /api/auth/setup": "whether there is a user at all",
    "POST /api/auth/login": "logging in",
    "POST /api/pipelines/{pipeline_id}/webhook": "whoever knows the token",
}

# Calls that nobody is accepted with here, and why: what is behind them is looked at elsewhere.
NEVER_ACCEPTED = {
    "POST /api/auth/setup": "the first user is there; `tests/api/test_accounts.py` makes one",
    "POST /api/auth/password": "no generator knows the password; `tests/api/test_accounts.py` changes one",
    "POST /api/auth/login": "no generator knows the password; `tests/api/test_accounts.py` logs in",
}

_GRAPH = "edges lead to nodes that there are, without a circle; types, schedules, zones and conditions are those that the server knows"
_FIELDS = "which fields a type needs, and that secrets are given again for another server"
_CURSOR = "`after` is the cursor that the page before gave"
# Calls that may refuse what the document describes, because no JSON Schema says all that is asked of it. Each is accepted at times, too.
SAYS_NOT_ALL: dict[str, str] = {
    "POST /api/pipelines": _GRAPH,
    "PUT /api/pipelines/{pipeline_id}": _GRAPH,
    "PATCH /api/pipelines/{pipeline_id}": _GRAPH,
    "POST /api/pipelines/import": _GRAPH,
    "POST /api/pipelines/dry-run": _GRAPH,
    "POST /api/pipelines/validate": "whatever is wrong with the pipeline is its answer",
    "POST /api/pipelines/{pipeline_id}/rollback": "the version is one that the pipeline has",
    "POST /api/pipelines/{pipeline_id}/run": "params are those that the pipeline declares; numbers fit 64 bits",
    "POST /api/pipelines/{pipeline_id}/webhook": "params are those that the pipeline declares; numbers fit 64 bits",
    "POST /api/pipelines/{pipeline_id}/dry-run": "params are those that the pipeline declares; numbers fit 64 bits",
    "POST /api/pipelines/{pipeline_id}/backfill": "dates or moments, not both, in order, and not too many",
    "POST /api/runs/{run_id}/resume": "`from_node` is a node of the pipeline",
    "POST /api/connections": _FIELDS,
    "POST /api/connections/test": _FIELDS,
    "PUT /api/connections/{conn_id}": _FIELDS,
    "PATCH /api/connections/{conn_id}": _FIELDS,
    "POST /api/variables": "the value is of the type",
    "PUT /api/variables/{key}": "the value is of the type, and the key that of the address",
    "PATCH /api/variables/{key}": "the value is of the type, and the key that of the address",
    "POST /api/auth/login": "name and password are those of a user",
    "POST /api/auth/password": "the current password, and a new one that is not among the common ones",
    "POST /api/auth/setup": "a password that is not among the common ones",
    "POST /api/users": "roles that there are, and a password that is not among the common ones",
    "PATCH /api/users/{user_id}": "roles that there are, and a password that is not among the common ones",
    "POST /api/schedules/preview": "cron fields, time zones, and years that there are",
    "GET /api/pipelines": _CURSOR,
    "GET /api/audit": _CURSOR,
    "GET /api/audit/export": "moments in order",
    "GET /api/lineage": "`depth` goes with `asset`",
}
_REFUSED = (400, 422)


def foreseen(failure: Any, case: Case[Any], response: Response) -> bool:
    """Whether a failed check is none."""
    if isinstance(failure, RejectedPositiveData):
        return response.status_code in _REFUSED and (case.operation.label in SAYS_NOT_ALL or _has_point(case.body))
    # A body of blanks is no body, which is as good as `{}`.
    return isinstance(failure, AcceptedNegativeData) and isinstance(case.body, bytes) and not case.body.strip(b" \t\r\n")


def _has_point(body: Any) -> bool:
    """JSON Schema takes 5.0 for a whole number. This server does not: who sends it has calculated with fractions."""
    if isinstance(body, dict | list):
        return any(map(_has_point, body.values() if isinstance(body, dict) else body))
    return isinstance(body, float) and body.is_integer()
