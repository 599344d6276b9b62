"""Identifiers: UUIDv7 (RFC 9562), which sort by the time they were made and so keep indexes compact."""

import uuid

from uuid_utils.compat import uuid7


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
