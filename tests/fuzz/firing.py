"""One caller's requests: schemathesis makes them of the OpenAPI document, the application answers in this process, and every answer is judged."""

import contextlib
import functools
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import schemathesis
from django.core.wsgi import get_wsgi_application
from drf_spectacular.generators import SchemaGenerator
from schemathesis import hooks, openapi
from schemathesis.config import SchemathesisConfig
from schemathesis.core.parameters import ParameterLocation
from schemathesis.engine import events, from_schema
from schemathesis.engine.recorder import CheckFailureInfo, ScenarioRecorder
from schemathesis.transport.wsgi import WSGITransport

from brokoli_site.common.json import dumps
from tests.fuzz import allowances
from tests.fuzz.callers import Caller
from tests.fuzz.findings import Defect, Tally
from tests.fuzz.world import TOKEN, World

PHASES = ("examples", "coverage", "fuzzing", "stateful")
_AIMED = 0.85  # of the calls with an id in their address are aimed at a row that there is


@dataclass(frozen=True, slots=True)
class Aim:
    """What is fired: phases of schemathesis, examples an operation in those that draw lots, and at which operations (a regular expression)."""

    phases: Sequence[str] = PHASES
    examples: int = 10
    operations: str = ""


def fire(caller: Caller, aim: Aim, seed: int) -> Iterator[Tally]:
    """Yields the tally so far after each operation."""
    tally = Tally()
    with _aimed(World(random.Random(seed)), caller):
        for event in from_schema(_loaded(caller, aim, seed)).execute():
            if isinstance(event, events.ScenarioFinished):
                _count(event.recorder, caller, tally)
                yield tally
            elif isinstance(event, events.NonFatalError):
                tally.note(Defect(caller.name, event.label, "error", type(event.value).__name__, str(event.value), "", ""))
            elif isinstance(event, events.FatalError):
                raise event.exception
    yield tally


@functools.cache
def _document() -> bytes:
    return dumps(SchemaGenerator().get_schema(request=None, public=True))  # type: ignore[no-untyped-call]


def document() -> dict[str, Any]:
    """The OpenAPI document, as a server with users means it: credentials are not optional any more."""
    found: dict[str, Any] = json.loads(_document())
    for calls in found["paths"].values():
        for call in calls.values():
            if "security" in call:
                call["security"] = [way for way in call["security"] if way]
    return found


def _loaded(caller: Caller, aim: Aim, seed: int) -> schemathesis.BaseSchema:
    described = document()
    config = {
        "seed": seed,
        "headers": dict(caller.headers),
        "continue-on-failure": True,
        "output": {"sanitization": {"enabled": False}},
        "generation": {"max-examples": aim.examples, "database": "none", "with-security-parameters": False},
        "phases": {phase: {"enabled": phase in aim.phases} for phase in PHASES},
        "operations": [{"include-name": name, "enabled": False} for name in operations(described) if not _is_aimed_at(name, aim)],
    }
    schema = openapi.from_dict(described, config=SchemathesisConfig.from_dict(config))
    schema.app = get_wsgi_application()
    schema.hook("filter_failure")(_foreseen)
    return schema


def operations(described: Mapping[str, Any]) -> list[str]:
    """Their names: `GET /api/runs`."""
    return [f"{method.upper()} {path}" for path, calls in described["paths"].items() for method in calls]


def _is_aimed_at(name: str, aim: Aim) -> bool:
    return name not in allowances.NOT_FIRED and re.search(aim.operations, name) is not None


@contextlib.contextmanager
def _aimed(world: World, caller: Caller) -> Iterator[None]:
    """Calls that are sent in this block are aimed at rows of the world. (Schemathesis knows this hook for all schemas alone.)"""

    def before_call(context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:
        del context, kwargs
        # The coverage of schemathesis 4.32 has no value for the pattern of this header and sends a zero with every change.
        if case.headers.get("If-Match") == "0" or ("If-Match" in case.headers and not _is_broken(case, ParameterLocation.HEADER)):
            case.headers["If-Match"] = "*"  # nor does any generator know the version that is current
        if world.chance.random() < _AIMED:
            _take_aim(world, case)

    def send(self: WSGITransport, case: schemathesis.Case[Any], **settings: Any) -> schemathesis.Response:
        answer = _SEND(self, case, **{name: value for name, value in settings.items() if name not in _OF_CONNECTIONS})
        if case.path.startswith(_OF_ACCOUNTS) or answer.status_code in (401, 429):
            caller.restore()
        return answer

    schemathesis.hook(before_call)
    try:
        with mock.patch.object(WSGITransport, "send", send):
            yield
    finally:
        hooks.unregister(before_call)


_SEND = WSGITransport.send
# Within one process there is no connection to set up, but schemathesis 4.32 sends its probes without credentials as if there were.
_OF_CONNECTIONS = ("max_redirects", "verify", "cert", "proxies")
_OF_ACCOUNTS = ("/api/auth", "/api/users")


def _take_aim(world: World, case: schemathesis.Case[Any]) -> None:
    linked = case.meta is not None and case.meta.phase.name.value == "stateful"
    if "{" in case.path and not linked and not _is_broken(case, ParameterLocation.PATH):
        case.path_parameters = {**case.path_parameters, **world.parameters(case.path, case.method)}
    named = case.path_parameters.keys() & {"conn_id", "key"}
    if named and isinstance(case.body, dict) and case.body.keys() & named and not _is_broken(case, ParameterLocation.BODY):
        case.body = {**case.body, **{name: case.path_parameters[name] for name in named}}  # a change repeats the name, if it has it
    if case.path.endswith("/webhook"):
        case.headers["X-Webhook-Token"] = TOKEN
    if "Idempotency-Key" in case.headers and not _is_broken(case, ParameterLocation.HEADER):
        case.headers["Idempotency-Key"] = str(world.chance.getrandbits(64))  # and a key is good for one body


def _is_broken(case: schemathesis.Case[Any], location: ParameterLocation) -> bool:
    return case.meta is not None and case.meta.is_negative_at(location)


def _foreseen(context: schemathesis.HookContext, failure: Any, case: schemathesis.Case[Any], response: schemathesis.Response) -> bool:
    del context
    return not allowances.foreseen(failure, case, response)


def _count(recorder: ScenarioRecorder, caller: Caller, tally: Tally) -> None:
    for case_id, interaction in recorder.interactions.items():
        tally.requests += 1
        case = recorder.cases[case_id].value
        if interaction.response is not None and case.method == case.operation.method.upper():
            tally.statuses[case.operation.label][interaction.response.status_code] += 1
    for case_id, found in recorder.checks.items():
        for check in found:
            if check.failure_info is not None:
                tally.note(_defect(recorder, caller, case_id, check.name, check.failure_info))


def _defect(recorder: ScenarioRecorder, caller: Caller, case_id: str, check: str, found: CheckFailureInfo) -> Defect:
    failure = found.failure
    answer = _shown(recorder.find_response(case_id=failure.case_id or case_id))
    return Defect(caller.name, failure.operation or recorder.label, check, failure.title, failure.message, answer, found.code_sample)


def _shown(response: schemathesis.Response | None) -> str:
    return "" if response is None else f"{response.status_code} {response.content[:400].decode(errors='replace')}"
