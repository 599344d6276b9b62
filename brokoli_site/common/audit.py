"""The audit log, as all apps write to it: who did what to which object, from where, and what it changed.

with transaction.atomic():
    row.save()
    audit.record("connection.updated", "connection", row.id, row.conn_id, before={"host": "a"}, after={"host": "b"})

`record` is called in the transaction that makes the change, so neither is ever there without the other. What changes nothing (a failed login,
a tested connection) is noted with `note`, which needs no transaction. Secrets are never in `before` or `after`; `differences.told_of_secret`
has what is said of them.

Who it was comes from the context: the middleware's request, whose user is asked for when something is written, because an API call
is authenticated late; or what `acting` and `command` say. With neither, it is the process: a command of `manage.py`, or the system itself.
"""

import getpass
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

from django.db import connection
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string

from brokoli_site.common import differences, request_ids
from brokoli_site.common.differences import difference
from brokoli_site.common.local_mode import LocalAdministrator

SET, CHANGED = differences.SET, differences.CHANGED  # what is told of a secret
VIA = ("session", "token", "basic", "local", "command", "webhook", "system", "anonymous")


@dataclass(frozen=True, slots=True)
class Origin:
    """Who does it, and from where; `via` is one of `VIA`."""

    actor: str
    via: str
    user_id: str = ""
    token: str = ""  # its name
    address: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be written. `diff` is bounded and has no secrets: see `differences.difference`."""

    origin: Origin
    action: str
    kind: str
    object_id: str
    name: str
    diff: Mapping[str, Any]


SYSTEM = Origin("system", "system")
# Commands that serve until they are stopped, or do what workers would: what they do by themselves, nobody did.
_SERVICES = frozenset({"serve", "runworker", "runserver", "enqueue_due_runs"})
# The dotted name of the function that stores an entry. The app that has the table registers it when it starts, before there are models.
writers: list[str] = []

_origin: ContextVar[Callable[[], Origin] | None] = ContextVar("audit_origin", default=None)


class OutsideTransaction(RuntimeError):
    """A change and its entry must be committed together: call `audit.record` inside the transaction that makes the change."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class Told(TypedDict, total=False):
    """What is told of an object beside its name. `by`: the user who does it, where the request does not know yet (a login)."""

    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    by: Any


def record(action: str, kind: str, object_id: object, name: str = "", **told: Unpack[Told]) -> None:
    """Write an entry in the caller's transaction. Errors: `OutsideTransaction`."""
    if not _in_transaction():
        raise OutsideTransaction
    note(action, kind, object_id, name, **told)


def note(action: str, kind: str, object_id: object, name: str = "", **told: Unpack[Told]) -> None:
    """The same of what changes nothing, and so needs no transaction."""
    origin, by = current(), told.get("by")
    if by is not None:
        origin = replace(origin, actor=by.get_username(), user_id=_id_of(by))
    entry = Entry(origin, action, kind, str(object_id), name, difference(told.get("before"), told.get("after")))
    for writer in writers:
        import_string(writer)(entry)


def current() -> Origin:
    """Who acts at this moment."""
    found = _origin.get()
    return found() if found is not None else of_process(*sys.argv[:2])


def of_process(program: str = "", name: str = "", *_: str) -> Origin:
    """Who acts where no context says it: whoever started this command, `manage.py createsuperuser`; or the system."""
    if Path(program).name != "manage.py" or not name or name in _SERVICES:
        return SYSTEM
    return Origin(f"command:{name} ({_account()})", "command")


@contextmanager
def acting(actor: str, via: str, *, user: Any = None, token: str = "") -> Iterator[None]:
    """What happens inside is done by this actor. Address and id stay those of the request, if there is one.

    `user`: their id and name are written, not `actor`.
    """
    around = _origin.get()

    def origin() -> Origin:
        outer = around() if around is not None else SYSTEM
        known = {"actor": user.get_username(), "user_id": _id_of(user)} if user is not None else {"actor": actor, "user_id": ""}
        return replace(outer, via=via, token=token, **known)

    with _from(origin):
        yield


@contextmanager
def requested(request: HttpRequest) -> Iterator[None]:
    """What happens inside is done by the user of this request."""
    with _from(lambda: of_request(request)):
        yield


@contextmanager
def _from(origin: Callable[[], Origin]) -> Iterator[None]:
    reset = _origin.set(origin)
    try:
        yield
    finally:
        _origin.reset(reset)


@contextmanager
def command(name: str) -> Iterator[None]:
    """What happens inside is done by whoever started this command: `command:purge_runs (ada)`."""
    with acting(f"command:{name} ({_account()})", "command"):
        yield


class AuditMiddleware:
    """What happens during a request is done by its user."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with requested(request):
            return self.get_response(request)


def of_request(request: HttpRequest) -> Origin:
    """Whoever the request was found to be from: DRF writes what it finds into Django's request, too."""
    address, request_id = str(request.META.get("REMOTE_ADDR") or ""), request_ids.of(request)
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return Origin("", "anonymous", address=address, request_id=request_id)
    if isinstance(user, LocalAdministrator):
        return Origin("local", "local", address=address, request_id=request_id)
    auth = getattr(request, "auth", None)
    # Pages of the admin read no such header, so there it says nothing of how somebody came; the API's requests have an `auth`.
    scheme = request.headers.get("Authorization", "").partition(" ")[0].lower() if hasattr(request, "auth") else ""
    via = "token" if auth is not None else "basic" if scheme == "basic" else "session"
    token = str(getattr(auth, "name", "")) if auth is not None else ""
    return Origin(user.get_username(), via, user_id=_id_of(user), token=token, address=address, request_id=request_id)


def _id_of(user: Any) -> str:
    return "" if user.pk is None else str(user.pk)


def _account() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user id that has no name
        return str(os.getuid())


def _in_transaction() -> bool:
    """Whether a transaction of our own is open; one that a test has around itself is none."""
    return connection.in_atomic_block and any(not getattr(block, "_from_testcase", False) for block in connection.atomic_blocks)
