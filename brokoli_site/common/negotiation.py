"""Which form an answer takes. A module of its own, because DRF's views import it."""

from typing import Any

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.request import Request


class AnyAcceptNegotiation(DefaultContentNegotiation):
    """Answers with what it has, whatever `Accept` says: a client that asks for HTML is helped by JSON more than by a 406."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        from_accept = [renderer for renderer in renderers if renderer.media_type in request.META.get("HTTP_ACCEPT", "")]
        renderer = (from_accept or list(renderers))[0]
        return renderer, renderer.media_type
