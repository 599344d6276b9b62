"""The server's entry point: HTTP through Django, WebSockets through Channels."""

import os
from typing import Any

from channels.db import database_sync_to_async
from channels.routing import ProtocolTypeRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.db import connections

from brokoli_site.common.body_length import BodyLength
from brokoli_site.common.proxies import TrustedProxies

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "brokoli_site.settings")
_django = get_asgi_application()
# These know models, which are there once Django is set up.
from pipelines import sealing  # noqa: E402
from runs.routing import websockets  # noqa: E402


async def lifespan(scope: Any, receive: Any, send: Any) -> None:
    """ASGI's lifespan: other servers than ours ask here whether to begin, and are refused while stored secrets cannot be read."""
    message = await receive()
    if message["type"] == "lifespan.startup":
        if sentence := await database_sync_to_async(sealing.fault_at_boot)():
            await send({"type": "lifespan.startup.failed", "message": sentence})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})


_protocols = ProtocolTypeRouter(
    {"http": BodyLength(_django, settings.MAX_PIPELINE_BYTES), "websocket": websockets(_django), "lifespan": lifespan},
)
application: Any = TrustedProxies(_protocols)  # ASGI's types say less than servers and tests know

# Under ASGI every request has a thread of its own, and a connection belongs to its thread: kept open, it would serve nobody and
# wait for the garbage collector. Workers, whose threads live on, keep theirs.
for _config in connections.settings.values():
    _config["CONN_MAX_AGE"] = 0
