"""Identifiers: UUIDv7 (RFC 9562), which sort by the time they were made and so keep indexes compact."""

import datetime as dt
import uuid

from uuid_utils.compat import uuid7

_FIRST_BIT_OF_TIME = 80  # 48 bits of milliseconds since 1970 stand before everything else


def new_id() -> uuid.UUID:
    """A new UUIDv7."""
    return uuid7()


def parse_id(text: object) -> uuid.UUID | None:
    """The UUID that `text` spells in its canonical form (36 characters), or None: an id that cannot be one is simply not found."""
    if isinstance(text, uuid.UUID):
        return text
    if not isinstance(text, str) or len(text) != 36:
        return None
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def made_at(key: uuid.UUID) -> dt.datetime:
    """When a UUIDv7 was made, to the millisecond."""
    return dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(milliseconds=key.int >> _FIRST_BIT_OF_TIME)


def earliest(moment: dt.datetime) -> uuid.UUID:
    """What no UUIDv7 that was made then, in its millisecond, or later is less than."""
    milliseconds = (moment - dt.datetime.fromtimestamp(0, dt.UTC)) // dt.timedelta(milliseconds=1)
    return uuid.UUID(int=min(max(milliseconds, 0), 2**48 - 1) << _FIRST_BIT_OF_TIME)
