"""Sessions in the database, under digests of their keys: whoever reads the table, or a backup of it, gets nobody's session."""

import hashlib
from typing import Any

from django.contrib.sessions.backends import db
from django.utils.timezone import now

_LONGEST = 40  # characters of the column; 160 bits of a digest are about what a key has


class SessionStore(db.SessionStore):
    """Django's, but that the row is found by a digest. The key itself is the cookie's alone."""

    def _get_session_from_db(self) -> Any:
        row = self.model.objects.filter(session_key=digest(self.session_key), expire_date__gt=now()).first()
        if row is None:
            self._session_key = None
        return row

    async def _aget_session_from_db(self) -> Any:
        row = await self.model.objects.filter(session_key=digest(self.session_key), expire_date__gt=now()).afirst()
        if row is None:
            self._session_key = None
        return row

    def exists(self, session_key: str) -> bool:
        return super().exists(digest(session_key))

    async def aexists(self, session_key: str) -> bool:
        return await super().aexists(digest(session_key))

    def create_model_instance(self, data: Any) -> Any:
        row = super().create_model_instance(data)
        row.session_key = digest(row.session_key)
        return row

    async def acreate_model_instance(self, data: Any) -> Any:
        row = await super().acreate_model_instance(data)
        row.session_key = digest(row.session_key)
        return row

    def delete(self, session_key: str | None = None) -> None:
        if key := session_key or self.session_key:
            super().delete(digest(key))

    async def adelete(self, session_key: str | None = None) -> None:
        if key := session_key or self.session_key:
            await super().adelete(digest(key))


def digest(key: str | None) -> str:
    """What is kept of a key: of 165 random bits, so it needs no salt and no slow hash."""
    return hashlib.sha256((key or "").encode()).hexdigest()[:_LONGEST]
