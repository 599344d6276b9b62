"""The server's entry point: HTTP through Django, WebSockets through Channels."""

import os
from typing import Any

from channels.routing import ProtocolTypeRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.db import connections

from brokoli_site.common.body_length import BodyLength
from brokoli_site.common.proxies import TrustedProxies

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "brokoli_site.settings")
_django = get_asgi_application()
# Knows models, which are there once Django is set up.
from runs.routing import websockets  # noqa: E402

_protocols = ProtocolTypeRouter({"http": BodyLength(_django, settings.MAX_PIPELINE_BYTES), "websocket": websockets(_django)})
application: Any = TrustedProxies(_protocols)  # ASGI's types say less than servers and tests know

# Under ASGI every request has a thread of its own, and a connection belongs to its thread: kept open, it would serve nobody and
# wait for the garbage collector. Workers, whose threads live on, keep theirs.
for _config in connections.settings.values():
    _config["CONN_MAX_AGE"] = 0
