"""Changes that say which version they have seen: `ETag` and `If-Match` (RFC 9110, 13.1.1), so that no change of another is lost."""

import re

from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request

from brokoli_site.common.errors import BadRequest

IF_MATCH = OpenApiParameter(
    "If-Match",
    {"type": "string", "pattern": '^(\\*|(W/)?"[^"]*")$'},
    "header",
    description="The ETag of the version that was read; 412 when another is current.",
)
ETAG = OpenApiParameter("ETag", str, "header", response=[200, 201], description="Names the version; give it as If-Match with a change.")
_ETAGS = re.compile(r'(?:W/)?"[^"]*"(?:\s*,\s*(?:W/)?"[^"]*")*')
_OURS = re.compile(r'(?<!W/)"(\d{1,9})"')


def etag(version: int) -> str:
    """The entity tag of a version."""
    return f'"{version}"'


def seen_versions(request: Request) -> frozenset[int] | None:
    """The versions that `If-Match` names; None without one, or for `*`. Weak or foreign tags match nothing.

    Errors: `BadRequest` when the header is no list of entity tags.
    """
    header = request.headers.get("If-Match", "*").strip()
    if header == "*":
        return None
    if not _ETAGS.fullmatch(header):
        raise BadRequest('If-Match must be the ETag of an answer, with its quotes: "3".')
    return frozenset(int(number) for number in _OURS.findall(header))
