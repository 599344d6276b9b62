"""The door of the event stream. A WebSocket's handshake passes through Django as a GET of this address, and so through all that a GET must pass."""

from dataclasses import dataclass
from typing import Any, ClassVar

from django.conf import settings
from django.http import HttpRequest
from drf_spectacular.utils import extend_schema
from rest_framework.authentication import BasicAuthentication, SessionAuthentication
from rest_framework.request import Request
from rest_framework.response import Response

from brokoli_site.common.api import ApiView
from brokoli_site.common.errors import BrokoliError
from runs.api import documentation
from runs.api.requests import EventsQuery
from runs.events.filters import EventFilter, Subscription

# Where a handshake's ASGI scope holds its `Handshake`.
HANDSHAKE = "brokoli.handshake"


class UpgradeRequired(BrokoliError):
    """This address is a WebSocket: connect with a client for those, such as `wscat -c ws://localhost:8080/api/ws`."""

    status, code = 426, "upgrade_required"


class ForeignOrigin(BrokoliError):
    """A page of this server may connect, and a program that sends no Origin and credentials of its own. (BROKOLI_TRUSTED_ORIGINS names others.)"""

    status, code = 403, "foreign_origin"


@dataclass
class Handshake:
    """What the view found out about a client."""

    admitted: bool = False
    subscription: Subscription = Subscription(EventFilter())  # noqa: RUF009 - immutable
    user: Any = None
    by_password: bool = False  # it sent name and password, which take long to check


class EventsView(ApiView):
    """`GET /api/ws`"""

    required_permissions: ClassVar = {"GET": "runs.view"}
    query_serializers: ClassVar = {"GET": EventsQuery}

    def check_permissions(self, request: Request) -> None:
        check_origin(request)
        super().check_permissions(request)

    @extend_schema(**documentation.EVENTS)
    def get(self, request: Request) -> Response:
        handshake = getattr(request._request, "scope", {}).get(HANDSHAKE)
        if handshake is None:
            raise UpgradeRequired
        handshake.subscription = subscription_of(self.query)
        handshake.user = request.user
        handshake.by_password = isinstance(request.successful_authenticator, BasicAuthentication)
        handshake.admitted = True
        return Response(status=101)


def subscription_of(query: dict[str, Any]) -> Subscription:
    """The parameters of the address."""
    ids = {name: str(query[name]) for name in ("run_id", "pipeline_id") if name in query}
    return Subscription(EventFilter(**ids, types=query.get("types")), query.get("since"))


def check_origin(request: Request) -> None:
    """Browsers let a page of any origin connect, with the user's cookies and even with a password that they remember.

    So an Origin must be this server's or a trusted one; and who comes by a cookie must have one, as every browser does.
    Errors: `ForeignOrigin`.
    """
    http: HttpRequest = request._request
    if HANDSHAKE not in getattr(http, "scope", {}):
        return  # a plain GET gives away nothing
    origin = http.META.get("HTTP_ORIGIN")
    if origin is None:
        if isinstance(request.successful_authenticator, SessionAuthentication):
            raise ForeignOrigin
        return
    ours = f"{'https' if http.is_secure() else 'http'}://{http.get_host()}"
    if origin.lower() not in {ours.lower(), *(trusted.lower() for trusted in settings.CSRF_TRUSTED_ORIGINS)}:
        raise ForeignOrigin
