"""Rows that people make and change under a name: connections and variables. A change is made of the version that it has seen."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from brokoli_site.common import audit
from brokoli_site.common.errors import Conflict, NotFound, PreconditionFailed
from brokoli_site.common.problems import BodyError
from pipelines import used_by
from pipelines.models import Connection, Variable
from pipelines.problems import shortened
from pipelines.used_by import Kind

MOST_LISTED = 1000
_ATTEMPTS = 10  # rivals that may win against one change before it gives up
RowT = TypeVar("RowT", Connection, Variable)


@dataclass(frozen=True)
class NamedRows(Generic[RowT]):
    """All rows of `model`. `column` has their names, and people call it `word`; `searched` are the columns that a search looks at.

    `state` tells the audit log of a row; of its secrets, that they are set, or changed since the row before.
    """

    model: type[RowT]
    kind: Kind
    column: str
    word: str
    searched: tuple[str, ...]
    state: Callable[[RowT, RowT | None], Mapping[str, Any]]

    def find(self, name: str) -> RowT:
        """Errors: `NotFound`."""
        row = self._named(name).first()
        if row is None:
            raise NotFound(f"There is no {self.kind} '{shortened(name)}'.")
        return row

    def listing(self, *, q: str = "", kind: str = "", after: str = "", limit: int = MOST_LISTED) -> QuerySet[RowT]:
        """By name: those that a search for `q` finds, of that type, after that name."""
        rows = self.model.objects.order_by(self.column)
        if q:
            rows = rows.filter(Q(*((f"{column}__icontains", q) for column in self.searched), _connector=Q.OR))
        if kind:
            rows = rows.filter(type=kind)
        if after:
            rows = rows.filter(**{f"{self.column}__gt": after})
        return rows[:limit]

    @contextmanager
    def inserting(self, row: RowT) -> Iterator[None]:
        """A transaction around the insert of this row. Errors: `Conflict` when its name is taken."""
        name = str(row)
        try:
            with transaction.atomic():
                yield
                audit.record(f"{self.kind}.created", self.kind, name, name, after=self.state(row, None))
        except IntegrityError as error:
            if not self._named(name).exists():
                raise
            raise Conflict(f"There is a {self.kind} '{name}' already; choose another {self.word}, or change that one.") from error

    def change(self, name: str, seen: Collection[int] | None, columns_of: Callable[[RowT], Mapping[str, Any]]) -> tuple[RowT, RowT]:
        """Give the row what `columns_of` says of it as it is. Returns it as it was, and as it is now.

        Errors: `NotFound`; those of `columns_of`; `PreconditionFailed` when `seen` lacks the current version; `Conflict`.
        """
        for _ in range(_ATTEMPTS):
            row = self.find(name)
            columns = columns_of(row)
            self._check_seen(row, seen)
            unchanged = self.model.objects.filter(id=row.id, version=row.version)
            with transaction.atomic():
                if unchanged.update(**columns, version=row.version + 1, updated_at=timezone.now()):
                    changed = self.find(name)
                    audit.record(f"{self.kind}.updated", self.kind, name, name, before=self.state(row, None), after=self.state(changed, row))
                    return row, changed
        raise Conflict(f"The {self.kind} is being changed by others all the time; try again.")

    def refuse_renaming(self, name: str, given: str) -> None:
        """Errors: `BodyError` when a change names another row than it is for: pipelines name it so."""
        if given != name:
            raise BodyError({f"/{self.column}": [f"A {self.kind} keeps its {self.word}; make another one, and remove this."]})

    def delete(self, name: str, *, seen: Collection[int] | None = None, force: bool = False) -> None:
        """Errors: `NotFound`; `PreconditionFailed`; `Conflict` naming the pipelines that use it, unless it is forced."""
        row = self.find(name)
        self._check_seen(row, seen)
        if not force:
            used_by.refuse_deletion(self.kind, name)
        rows = self.model.objects.filter(id=row.id)
        with transaction.atomic():
            if not (rows if seen is None else rows.filter(version=row.version)).delete()[0]:
                raise PreconditionFailed(f"The {self.kind} was changed by somebody else; read it again.")
            audit.record(f"{self.kind}.deleted", self.kind, name, name, before=self.state(row, None))

    def _named(self, name: str) -> QuerySet[RowT]:
        return self.model.objects.filter(**{self.column: name})

    def _check_seen(self, row: RowT, seen: Collection[int] | None) -> None:
        if seen is not None and row.version not in seen:
            raise PreconditionFailed(f"The {self.kind} was changed by somebody else and is at version {row.version} now; read it again.")
