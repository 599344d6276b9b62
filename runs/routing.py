"""Where WebSockets are."""

from channels.routing import URLRouter
from django.urls import path, re_path

from runs.consumers import EventsConsumer, NoSuchSocket
from runs.handshakes import Application


def websockets(django: Application) -> Application:
    """The application for WebSockets; `django` answers their handshakes."""
    router: Application = URLRouter([path("api/ws", EventsConsumer.as_asgi(django=django)), re_path("", NoSuchSocket.as_asgi())])
    return router
