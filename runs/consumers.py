"""The WebSocket of the event stream. One object a client; all it keeps is which events are wanted and how far they are sent."""

import asyncio
import contextlib
import logging
from collections import Counter, deque
from typing import Any

import orjson
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.db import DatabaseError, InterfaceError

from brokoli_site.common.errors import BadRequest, BrokoliError, NotFound, Unavailable
from brokoli_site.common.json import dumps
from brokoli_site.common.problems import MEDIA_TYPE, RETRY_AFTER_SECONDS, problem_of
from brokoli_site.common.rate_limits import TooManyRequests
from runs.api.events import Handshake
from runs.events.filters import ACCEPTED, EventFilter, Subscription, read_message
from runs.events.frames import Batch, payloads
from runs.events.ring import Ring
from runs.events.source import replay
from runs.events.tailer import Tailer, tailer
from runs.handshakes import Application, Receive, Scope, Send, knock, still_admitted

_log = logging.getLogger(__name__)
# Message of ours to a server that offers it: frames as they go over the wire, many at once (see `brokoli_site.web`).
FRAMES = "brokoli.frames"
DENIAL = "websocket.http.response"
UNSUPPORTED, POLICY, UNEXPECTED, TRY_AGAIN = 1003, 1008, 1011, 1013  # RFC 6455, 7.4.1, and IANA's list
_READY_SECONDS = 4.0
RECHECK_SECONDS = 30.0
_RETRY_SECONDS = 0.5
_MOST_WAITING = 16  # messages of a client that reads no answers
_open: Counter[Any] = Counter()  # sockets of this process by the id of their user; None is the administrator of local mode
_read = database_sync_to_async(replay, thread_sensitive=False)  # one client's replay does not wait for another's


class NoSuchSocket(AsyncWebsocketConsumer):  # type: ignore[misc]  # Channels has no types
    """Refuses every handshake: there is no WebSocket at this address."""

    scope: Scope

    async def connect(self) -> None:
        await self.refuse_with(NotFound("There is no WebSocket at this address; there is one at /api/ws."))

    async def refuse_with(self, error: BrokoliError) -> None:
        headers = [(b"content-type", MEDIA_TYPE.encode())]
        if error.status in (Unavailable.status, TooManyRequests.status):
            headers.append((b"retry-after", str(RETRY_AFTER_SECONDS).encode()))
        await self.refuse(error.status, headers, dumps(problem_of(error) | {"instance": self.scope["path"]}))

    async def refuse(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Answer the handshake with an HTTP error; a server that cannot do so answers 403 without words."""
        if DENIAL not in (self.scope.get("extensions") or {}):
            await self.close()
            return
        await self.base_send({"type": f"{DENIAL}.start", "status": status, "headers": headers})
        await self.base_send({"type": f"{DENIAL}.body", "body": body})


class EventsConsumer(NoSuchSocket):
    """Lets a client in, sends it events from its place on, and hears what it subscribes to."""

    def __init__(self, django: Application) -> None:
        super().__init__()
        self.django = django
        self._news = asyncio.Event()
        self._asked: deque[Subscription] = deque()
        self._tasks: list[asyncio.Task[None]] = []
        self._tailer: Tailer
        self._ring: Ring | None = None
        self._user_id: Any = None
        self._filter = EventFilter()
        self._seq = 0  # all wanted events up to here are sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:  # the server stops, too
            self._leave()

    async def connect(self) -> None:
        self._tailer = tailer()
        answer = await knock(self.django, self.scope)
        if not answer.handshake.admitted:
            await self.refuse(answer.status, answer.headers, answer.body)
        elif full := self._full(answer.handshake):
            await self.refuse_with(full)
        else:
            await self._begin(answer.handshake)

    def _full(self, handshake: Handshake) -> BrokoliError | None:
        """Why there is no room for one more, of this user or at all."""
        if handshake.user.pk is not None and _open[handshake.user.pk] >= settings.MAX_SOCKETS_PER_USER:
            return TooManyRequests(f"You have {settings.MAX_SOCKETS_PER_USER} WebSockets, the most that BROKOLI_MAX_SOCKETS_PER_USER allows.")
        if self._tailer.clients >= settings.MAX_SOCKETS:
            return Unavailable(f"This server has {settings.MAX_SOCKETS} WebSockets, the most that BROKOLI_MAX_SOCKETS allows.")
        return None

    async def _begin(self, handshake: Handshake) -> None:
        """The stream is followed before the client hears that it is connected: what is committed after that is never missed."""
        ring = self._ring = self._tailer.join(self._news)
        self._user_id = handshake.user.pk
        _open[self._user_id] += 1
        if not await self._ready(ring):
            self._leave()
            await self.refuse_with(Unavailable("The database is busy or cannot be reached; try again in a moment."))
            return
        wanted = handshake.subscription
        self._filter = wanted.filter
        self._seq = ring.frontier if wanted.since is None else wanted.since
        await self.accept()
        self._tasks = [asyncio.create_task(self._stream(ring)), asyncio.create_task(self._watch_rights(handshake))]
        for task in self._tasks:
            task.add_done_callback(self._see_end)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data is None:
            await self._fail(UNSUPPORTED, f"Messages are texts. Accepted is {ACCEPTED}.")
            return
        try:
            subscription = read_message(text_data)
        except BadRequest as error:
            await self._fail(POLICY, error.message)
            return
        if len(self._asked) >= _MOST_WAITING:
            await self._fail(POLICY, "Wait for the answer before you subscribe again.")
            return
        self._asked.append(subscription)
        self._news.set()

    async def disconnect(self, code: int) -> None:
        self._leave()

    def _leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        if self._ring is not None:
            self._tailer.leave(self._ring, self._news)
            self._ring = None
            _open[self._user_id] -= 1
            if not _open[self._user_id]:
                del _open[self._user_id]

    async def _ready(self, ring: Ring) -> bool:
        """Wait until the stream knows where it begins."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_READY_SECONDS):
                while not ring.ready and not ring.closed:
                    self._news.clear()
                    await self._news.wait()
        return ring.ready

    # --- sending: one task, so that everything has its place in the order ------------------------------------------

    async def _stream(self, ring: Ring) -> None:
        """Everything that this client gets, for as long as it is there."""
        going_on = True
        while going_on:
            await self._replay(ring)
            going_on = await self._live(ring)

    async def _replay(self, ring: Ring) -> None:
        """From the database, page by page at the client's pace, until the rest is in memory."""
        while ring.place(self._seq) is None:
            if self._asked:
                await self._answer()
                continue
            try:
                page, reached = await _read(self._filter, self._seq, ring.frontier, self._tailer.pipelines)
            except (DatabaseError, InterfaceError) as error:
                _log.warning("a replay of events waits for the database: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            for batch in page:
                await self._send_batch(batch)
            self._seq = max(self._seq, reached)

    async def _live(self, ring: Ring) -> bool:
        """From memory. True when the client asks for something else, False when it is at its end."""
        place = ring.place(self._seq)
        while place is not None:
            self._news.clear()
            if self._asked:
                await self._answer()
                return True
            try:
                batch = ring.batch(place)
            except LookupError:
                await self._send({"type": "gap", "since": self._seq})
                await self.close(TRY_AGAIN, "too slow")
                return False
            if batch is not None:
                await self._send_batch(batch)
                self._seq = max(self._seq, batch.last)
                place += 1
            elif ring.closed:
                await self.close(UNEXPECTED, "the event stream failed")
                return False
            else:
                await self._news.wait()
        return True

    async def _answer(self) -> None:
        """Take up what the client subscribed to."""
        while self._asked:
            subscription = self._asked.popleft()
            self._filter = subscription.filter
            if subscription.since is not None:
                self._seq = subscription.since
            await self._send({"type": "subscribed", **self._filter.shown(), "since": self._seq})

    async def _send_batch(self, batch: Batch) -> None:
        blob = self._filter.blob(batch, self._seq)
        if not blob:
            return
        if FRAMES in (self.scope.get("extensions") or {}):
            await self.base_send({"type": FRAMES, "data": blob})
        else:
            for text in payloads(blob):
                await self.send(text_data=text)

    # --- ends ---------------------------------------------------------------------------------------------------------

    async def _watch_rights(self, handshake: Handshake) -> None:
        """Rights, users and sessions end while clients are connected."""
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            try:
                admitted = await still_admitted(self.django, self.scope, handshake)
            except (DatabaseError, InterfaceError):
                continue  # it says nothing about anybody
            if not admitted:
                await self._fail(POLICY, "You are not logged in any more, or may not see runs any more.")
                return

    def _see_end(self, task: asyncio.Task[None]) -> None:
        """A fault of ours: the client must not wait for what nobody sends any more, nor stay when nobody looks at its rights any more."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        _log.error("a client of the event stream is sent away", exc_info=error)
        self._leave()
        self._tasks.append(asyncio.create_task(self.close(UNEXPECTED, "the event stream failed")))

    async def _fail(self, code: int, sentence: str) -> None:
        """Say what is wrong, to this client alone, and end."""
        await self._send({"type": "error", "message": sentence})
        await self.close(code, sentence.partition(". ")[0][:100])
        self._leave()

    async def _send(self, document: dict[str, Any]) -> None:
        await self.send(text_data=orjson.dumps(document).decode())
