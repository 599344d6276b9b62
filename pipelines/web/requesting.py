"""Requests of a node: at a pace, again after what may pass, and ended with sentences that say what the server said."""

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeVar

from django.utils.http import parse_http_date_safe

from brokoli_site.common.addresses import AddressRefused, UnknownHost
from brokoli_site.common.errors import BrokoliError, NodeError, TransientNodeError
from brokoli_site.common.outbound import Answer, BrokenOff, Client, NotReached, TooSlow
from pipelines.nodes.base import NodeContext
from pipelines.web.targets import shown

# What a method may do twice (RFC 9110, 9.2.2).
REPEATABLE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
LONGEST_WAIT_SECONDS = 300.0  # that a server may ask for
_LONGEST_DELAY_SECONDS = 60.0
_LATER = frozenset({408, 425, 429})
_NEVER = frozenset({501, 505})
_EXCERPT_BYTES, _EXCERPT_CHARACTERS = 4096, 300

Received = TypeVar("Received")


@dataclass(frozen=True, slots=True)
class Policy:
    """How often and how fast. `repeatable`: a request may be made again although the server may have done what it asks for."""

    retries: int = 3
    delay_seconds: float = 1.0
    exponential: bool = True
    repeatable: bool = True
    per_second: float | None = None

    def delay(self, failures: int) -> float:
        """Seconds before the attempt after so many failures; jitter keeps those apart who failed together."""
        seconds = self.delay_seconds * (2 ** (failures - 1) if self.exponential else 1)
        return min(seconds, _LONGEST_DELAY_SECONDS) * random.uniform(0.8, 1.2)  # noqa: S311 - not for secrets


@dataclass(frozen=True, slots=True)
class Refusal:
    """How an attempt failed. `again`: another may succeed, not before so many seconds. `unsure`: the server may have got the request."""

    sentence: str
    again: bool
    not_before_seconds: float = 0.0
    unsure: bool = False

    def error(self) -> NodeError:
        return TransientNodeError(self.sentence) if self.again else NodeError(self.sentence)


class RequestFailed(Exception):
    """A request failed for good; internal to the nodes, which say what was done until then."""

    def __init__(self, refusal: Refusal, attempts: int) -> None:
        super().__init__(refusal.sentence)
        self.refusal = refusal
        self.attempts = attempts


@dataclass
class Requester:
    """Makes a node's requests. Thread-safe. What it waits for ends when the node is told to stop, and with `halt`."""

    context: NodeContext
    client: Client
    policy: Policy
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _halted: threading.Event = field(default_factory=threading.Event)
    _next_at: float = 0.0

    def __post_init__(self) -> None:
        self.context.stop.on_stop(self.halt)

    def halt(self) -> None:
        """Break off what is under way or waits."""
        self._halted.set()
        self.client.break_off()

    def ask(
        self, method: str, url: str, headers: Mapping[str, str], receive: Callable[[Answer], Received], *, body: bytes | None = None, what: str = ""
    ) -> Received:
        """What `receive` makes of the answer that is a success; it may be called again when the server breaks off in the middle.

        `what` names the request in the log. Errors: `RequestFailed`; the stop's reason; those of `receive`.
        """
        failures = 0
        what = what or f"{method} {shown(url)}"
        while True:
            self._pace()
            found = self._attempt(method, url, headers, receive, body, what)
            if not isinstance(found, Refusal):
                return found
            failures += 1
            if not found.again or not self.policy.repeatable or failures > self.policy.retries:
                raise RequestFailed(found, failures)
            seconds = max(self.policy.delay(failures), min(found.not_before_seconds, LONGEST_WAIT_SECONDS))
            self.context.log.warning(f"{found.sentence} Trying again in {seconds:.1f} s ({failures} of {self.policy.retries}).")
            self._wait(seconds)

    def _attempt(
        self, method: str, url: str, headers: Mapping[str, str], receive: Callable[[Answer], Received], body: bytes | None, what: str
    ) -> "Received | Refusal":
        try:
            with self.client.opened(method, url, headers=headers, body=body) as answer:
                return receive(answer) if 200 <= answer.status < 300 else self._refused(answer, what)
        except BrokenOff:
            self.context.stop.check()
            raise
        except (NotReached, TooSlow) as error:
            self.context.stop.check()
            return Refusal(f"{what} failed: {_lower(error.message)}", again=True, unsure=True)
        except UnknownHost as error:
            return Refusal(f"{what} failed: {_lower(error.message)}", again=True)
        except (NodeError, RequestFailed):
            raise
        except AddressRefused as error:
            return Refusal(f"{what} is not made. {error.message}", again=False)
        except BrokoliError as error:
            return Refusal(f"{what} failed: {_lower(error.message)}", again=False)

    def _refused(self, answer: Answer, what: str) -> Refusal:
        status = answer.status
        sentence = f"{what} was answered with {status}{_phrase(status)}"
        if 300 <= status < 400:
            return Refusal(f"{sentence}, which leads elsewhere and is not followed here; give the new address.", again=False)
        again = may_succeed_later(status)
        said = self._excerpt(answer)
        return Refusal(
            f"{sentence}." + (f" The server says: {said}" if said else ""),
            again=again,
            not_before_seconds=retry_after_seconds(answer.headers.get("Retry-After", "")) if again else 0.0,
            unsure=status >= 500,
        )

    def _excerpt(self, answer: Answer) -> str:
        """The first of what an error answer says, on one line and without secrets; they go before it is cut, or half of one would stay."""
        found = b""
        try:
            for chunk in answer.chunks(10 * _EXCERPT_BYTES):
                found += chunk
                if len(found) >= _EXCERPT_BYTES:
                    break
        except BrokoliError:
            self.context.stop.check()
        text = self.context.run.vault.redact(found[:_EXCERPT_BYTES].decode("utf-8", "replace"))
        text = " ".join("".join(character if character.isprintable() else " " for character in text).split())
        return text if len(text) <= _EXCERPT_CHARACTERS else text[:_EXCERPT_CHARACTERS] + "…"

    def _pace(self) -> None:
        """Wait for this request's turn. Errors: as `_wait`."""
        self.context.stop.check()
        if not self.policy.per_second:
            return
        with self._lock:
            now = time.monotonic()
            at = max(now, self._next_at)
            self._next_at = at + 1 / self.policy.per_second
        self._wait(at - now)

    def _wait(self, seconds: float) -> None:
        """Errors: the stop's reason; `BrokenOff`."""
        if self._halted.wait(max(0.0, seconds)):
            self.context.stop.check()
            raise BrokenOff


def retry_after_seconds(text: str) -> float:
    """Of `Retry-After`: a number of seconds, or a date."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    moment = parse_http_date_safe(text) if text else None
    return max(0.0, moment - time.time()) if moment is not None else 0.0


def may_succeed_later(status: int) -> bool:
    """Whether a server that answered so may take the same request another time."""
    return status in _LATER or (status >= 500 and status not in _NEVER)


def _phrase(status: int) -> str:
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
