"""Listings in pages: by number (`?page=&per_page=`), and by cursor (`?after=&limit=`). The cost of a page does not grow with its number of rows.

Both need a queryset whose order is total (it ends in a unique column) and that an index gives.
"""

import math
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from rest_framework import serializers

from brokoli_site.common.api import StrictSerializer
from brokoli_site.common.ids import parse_id
from brokoli_site.common.problems import QueryError

MOST_PER_PAGE = 100
LAST_PAGE = 100_000

Row = TypeVar("Row", bound=Model)


class PageQuery(StrictSerializer):
    """Query parameters of a listing by page number; derive from it and add filters."""

    page = serializers.IntegerField(min_value=1, max_value=LAST_PAGE, required=False, help_text="Number of the page, from 1.")
    per_page = serializers.IntegerField(min_value=1, max_value=MOST_PER_PAGE, required=False, help_text="Items on a page.")


class CursorQuery(StrictSerializer):
    """Query parameters of a listing by cursor; derive from it and add filters."""

    after = serializers.CharField(max_length=64, required=False, help_text="The `cursor` of the page before.")
    limit = serializers.IntegerField(min_value=1, max_value=MOST_PER_PAGE, required=False, help_text="Items on a page.")


def page(rows: QuerySet[Row], query: dict[str, Any], show: Callable[[Row], Any], per_page: int = 20) -> dict[str, Any]:
    """`{items, total, page, per_page, pages}`. Three queries: the count, the keys of the page (from the index alone), the rows."""
    number, size = query.get("page", 1), query.get("per_page", per_page)
    total = rows.order_by().count()
    keys = list(rows.values_list("pk", flat=True)[(number - 1) * size : number * size])
    # Only keys are skipped over, in the index: a far page would otherwise read every row before it.
    found = rows.filter(pk__in=keys) if keys else ()
    return {"items": [show(row) for row in found], "total": total, "page": number, "per_page": size, "pages": math.ceil(total / size)}


def cursor_page(rows: QuerySet[Row], query: dict[str, Any], show: Callable[[Row], Any], limit: int = 50) -> dict[str, Any]:
    """`{items, has_next, cursor}`, newest first, for rows whose key is a UUIDv7 (ordered by time). One query.

    Errors: `QueryError` for a cursor that no page gave.
    """
    size = query.get("limit", limit)
    if "after" in query:
        rows = rows.filter(pk__lt=_cursor(query["after"]))
    found = list(rows.order_by("-pk")[: size + 1])
    items = found[:size]
    has_next = len(found) > size
    return {"items": [show(row) for row in items], "has_next": has_next, "cursor": str(items[-1].pk) if has_next else None}


def _cursor(text: str) -> uuid.UUID:
    found = parse_id(text)
    if found is None:
        raise QueryError({"after": ["This is not the cursor of a page."]})
    return found
