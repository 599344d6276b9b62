"""Which events a client wants: from the address that it connects to, and from its `subscribe` messages. Pure: no database."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from brokoli_site.common.errors import BadRequest
from brokoli_site.common.ids import parse_id
from brokoli_site.common.json import loads
from runs.events.frames import Batch, Event
from runs.states import EntryKind

TYPES = tuple(kind.value for kind in EntryKind)
MAX_SEQ = 2**63 - 1
ACCEPTED = '{"subscribe": {"run_id": "…", "pipeline_id": "…", "types": ["run.failed", …], "since": 123}}, each key where it is wanted'


@dataclass(frozen=True, slots=True)
class EventFilter:
    """What an event must be to be sent; None asks nothing."""

    run_id: str | None = None
    pipeline_id: str | None = None
    types: frozenset[str] | None = None

    @property
    def everything(self) -> bool:
        return self.run_id is None and self.pipeline_id is None and self.types is None

    def wants(self, event: Event) -> bool:
        return (
            (self.run_id is None or event.run_id == self.run_id)
            and (self.pipeline_id is None or event.pipeline_id == self.pipeline_id)
            and (self.types is None or event.type in self.types)
        )

    def blob(self, batch: Batch, since: int) -> bytes:
        """The frames of the batch that are wanted and come after `since`."""
        if self.everything and batch.events[0].seq > since:
            return batch.blob  # the same bytes for all such clients
        return b"".join(frame for event, frame in batch.frames() if event.seq > since and self.wants(event))

    def shown(self) -> dict[str, Any]:
        """As a client gets it back; what asks nothing is left out."""
        found: dict[str, Any] = {}
        if self.run_id:
            found["run_id"] = self.run_id
        if self.pipeline_id:
            found["pipeline_id"] = self.pipeline_id
        if self.types is not None:
            found["types"] = sorted(self.types)
        return found


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a client asks for. `since`: the `seq` after which it wants to begin; None: where it stands."""

    filter: EventFilter
    since: int | None = None


def read_message(text: str) -> Subscription:
    """A client's message. Errors: `BadRequest` with a sentence that says what is accepted."""
    try:
        message = loads(text.encode())
    except (BadRequest, UnicodeEncodeError) as error:
        raise BadRequest(f"The message is not JSON. Accepted is {ACCEPTED}.") from error
    if not isinstance(message, dict) or set(message) != {"subscribe"} or not isinstance(message["subscribe"], dict):
        raise BadRequest(f"There is no such message. Accepted is {ACCEPTED}.")
    return read_subscription(message["subscribe"])


def read_subscription(asked: Mapping[str, Any]) -> Subscription:
    """The keys of a `subscribe` message, or the parameters of the address. Errors: `BadRequest` naming the first that is wrong."""
    unknown = sorted(set(asked) - {"run_id", "pipeline_id", "types", "since"})
    if unknown:
        raise BadRequest(f'There is no key "{unknown[0][:100]}". Accepted is {ACCEPTED}.')
    keys = {name: _read_id(name, asked[name]) for name in ("run_id", "pipeline_id") if asked.get(name) is not None}
    types = asked.get("types")
    return Subscription(EventFilter(**keys, types=None if types is None else read_types(types)), _read_since(asked.get("since")))


def _read_id(name: str, value: object) -> str:
    found = parse_id(value)
    if found is None:
        raise BadRequest(f'"{name}" is an id such as 019a9f3c-5b1e-7c42-9d0e-2f6a4c1b8e70.')
    return str(found)


def read_types(value: object) -> frozenset[str]:
    """Errors: `BadRequest` naming the first that is none."""
    if not isinstance(value, list) or not value:
        raise BadRequest(f'"types" is a list of one or more of {", ".join(TYPES)}.')
    wrong = next((name for name in value if name not in TYPES), None)
    if wrong is not None:
        raise BadRequest(f'"types": "{str(wrong)[:100]}" is none of {", ".join(TYPES)}.')
    return frozenset(value)


def _read_since(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SEQ:
        raise BadRequest('"since" is the `seq` of the last event that you have, a whole number from 0.')
    return value
