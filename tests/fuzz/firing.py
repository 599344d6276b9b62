"""One caller's requests: schemathesis makes them of the OpenAPI document, the application answers in this process, and every answer is judged."""

import contextlib
import functools
import json
import random
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import schemathesis
from django.core.wsgi import get_wsgi_application
from drf_spectacular.generators import SchemaGenerator
from schemathesis import hooks, openapi
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.engine.core import EventStream
from schemathesis.engine.recorder import CheckFailureInfo, ScenarioRecorder
from schemathesis.generation import GenerationMode
from schemathesis.transport.wsgi import WSGITransport

from brokoli_site.common.json import dumps
from tests.fuzz import aiming, allowances
from tests.fuzz.callers import Caller
from tests.fuzz.findings import Defect, Tally
from tests.fuzz.world import World

_REFUSED = (400, 404, 409, 422)
PHASES = ("examples", "coverage", "fuzzing", "stateful")
# How the requests that are drawn by lot are shared out. The coverage of the document has broken each part of each call one by one
# already; what is behind a call is met with what the document allows.
_DRAWN = [GenerationMode.POSITIVE] * 4 + [GenerationMode.NEGATIVE]


@dataclass(frozen=True, slots=True)
class Aim:
    """What is fired: phases of schemathesis, examples an operation in those that draw lots, at which operations (a regular expression), how long."""

    phases: Sequence[str] = PHASES
    examples: int = 10
    operations: str = ""
    seconds: float = 3600


def fire(caller: Caller, aim: Aim, seed: int) -> Iterator[Tally]:
    """Yields the tally so far after each operation."""
    tally = Tally()
    tally.expect(name for name in operations(document()) if _is_aimed_at(name, aim))
    with (
        _aimed(World(random.Random(seed)), caller),
        _stopped_in_time(from_schema(_loaded(caller, aim, seed)).execute(), aim.seconds, tally) as stream,
    ):
        for event in stream:
            if isinstance(event, events.ScenarioFinished):
                _count(event.recorder, caller, tally)
                yield tally
            elif isinstance(event, events.NonFatalError):
                tally.note(Defect(caller.name, event.label, "error", type(event.value).__name__, str(event.value), "", ""))
            elif isinstance(event, events.FatalError):
                raise event.exception
    yield tally


@contextlib.contextmanager
def _stopped_in_time(stream: EventStream, seconds: float, tally: Tally) -> Iterator[EventStream]:
    """Schemathesis' own limit of time would go on until it is used up."""

    def stop() -> None:
        tally.stopped = True
        stream.stop()

    timer = threading.Timer(seconds, stop)
    timer.start()
    try:
        yield stream
    finally:
        timer.cancel()


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
    schema.config.phases.fuzzing.generation.modes = _DRAWN
    schema.config.phases.stateful.generation.modes = [GenerationMode.POSITIVE]
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
        aiming.take_aim(world, case, caller.name)

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


def _foreseen(context: schemathesis.HookContext, failure: Any, case: schemathesis.Case[Any], response: schemathesis.Response) -> bool:
    del context
    return not allowances.foreseen(failure, case, response)


def _count(recorder: ScenarioRecorder, caller: Caller, tally: Tally) -> None:
    for case_id, interaction in recorder.interactions.items():
        tally.requests += 1
        case, parent = recorder.cases[case_id].value, recorder.cases[case_id].parent_id
        if interaction.response is None or case.method != case.operation.method.upper():
            continue
        # What a check asks on its own is asked without credentials, or with wrong ones.
        if parent is not None and case.meta is not None and case.meta.phase.name.value != "stateful":
            tally.probes += 1
            continue
        allowed = case.meta is not None and case.meta.generation.mode.is_positive
        tally.answered(case.operation.label, interaction.response.status_code, allowed=allowed)
        if allowed and interaction.response.status_code in _REFUSED:
            tally.refusals[case.operation.label][_reason(interaction.response)] += 1
    for case_id, found in recorder.checks.items():
        for check in found:
            if check.failure_info is not None:
                tally.note(_defect(recorder, caller, case_id, check.name, check.failure_info))


def _reason(response: schemathesis.Response) -> str:
    """Why a request was refused, in the words of the problem, without what was drawn."""
    try:
        told: dict[str, Any] = json.loads(response.content)
    except ValueError:  # the recorder keeps the beginning of a long answer
        return "…"
    first = next(iter(told.get("errors", ())), told)
    return f"{response.status_code} {first.get('pointer') or first.get('parameter') or ''} {first['detail']}"[:120]


def _defect(recorder: ScenarioRecorder, caller: Caller, case_id: str, check: str, found: CheckFailureInfo) -> Defect:
    failure = found.failure
    answer = _shown(recorder.find_response(case_id=failure.case_id or case_id))
    return Defect(caller.name, failure.operation or recorder.label, check, failure.title, failure.message, answer, found.code_sample)


def _shown(response: schemathesis.Response | None) -> str:
    return "" if response is None else f"{response.status_code} {response.content[:400].decode(errors='replace')}"
