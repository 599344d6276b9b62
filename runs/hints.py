"""Telling web servers through Redis that the log has grown, where there is a Redis (`BROKOLI_REDIS_URL`). Only a hint.

Web servers then ask the database four times a second and when they are told, not fifty times. Without Redis, or while it is
away, they ask as often as ever; what is told is never needed and carries nothing.
"""

import time
from importlib import import_module
from typing import Any, Protocol

from django.conf import settings
from django.db import transaction

# A package that only those need who have a Redis; settings are refused without it.
redis: Any = import_module("redis") if settings.REDIS_URL else None

_CHANNEL = "brokoli.log"
# No run may wait for a Redis that is slow: this long at most, and then nobody asks it for a while.
_SECONDS = 0.1
_PAUSE_SECONDS = 5.0
_LOOK_SECONDS = 0.25


class Watch(Protocol):
    """Says when a look at the log may be worth it."""

    seconds: float  # between two questions

    def changed(self) -> bool: ...
    def close(self) -> None: ...


def _no_retry() -> Any:
    return import_module("redis.retry").Retry(import_module("redis.backoff").NoBackoff(), 0)


class Publisher:
    """Tells others of commits. Safe to use from any thread."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS, retry=_no_retry())
        self._not_before = 0.0

    def tell(self) -> None:
        if time.monotonic() < self._not_before:
            return
        try:
            self._client.publish(_CHANNEL, b"")
        except redis.RedisError:
            self._not_before = time.monotonic() + _PAUSE_SECONDS


_publisher = Publisher(settings.REDIS_URL) if settings.REDIS_URL else None


def tell_at_commit() -> None:
    """Tell web servers of the log when this transaction commits."""
    if _publisher is not None:
        transaction.on_commit(_publisher.tell)


class Subscriber:
    """Hears of commits. One thread's. Errors: `redis.RedisError` when Redis is away."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS, retry=_no_retry())
        self._heard = self._client.pubsub(ignore_subscribe_messages=True)
        self._heard.subscribe(_CHANNEL)

    def wait(self, seconds: float) -> None:
        """Until somebody tells, at most so many seconds."""
        if self._heard.get_message(timeout=seconds) is not None:
            while self._heard.get_message(timeout=0) is not None:  # of all that were told meanwhile, one is enough
                pass

    def close(self) -> None:
        self._heard.close()
        self._client.close()


class HintedWatch:
    """Says when a look at the log may be worth it: when Redis tells, and four times a second. While Redis is away, as `unhinted` says."""

    def __init__(self, url: str, unhinted: Watch) -> None:
        self._url, self._unhinted = url, unhinted
        self._subscriber: Subscriber | None = None
        self._not_before = 0.0
        self.seconds = 0.0

    def changed(self) -> bool:
        try:
            if self._subscriber is None and time.monotonic() >= self._not_before:
                self._subscriber = Subscriber(self._url)
            if self._subscriber is not None:
                self.seconds = 0.0  # it has waited already
                self._subscriber.wait(_LOOK_SECONDS)
                return True
        except redis.RedisError:
            self._drop()
            self._not_before = time.monotonic() + _PAUSE_SECONDS
        self.seconds = self._unhinted.seconds
        return self._unhinted.changed()

    def close(self) -> None:
        self._drop()
        self._unhinted.close()

    def _drop(self) -> None:
        if self._subscriber is not None:
            self._subscriber.close()
            self._subscriber = None
