"""The server's entry point: HTTP through Django, WebSockets through Channels."""

import os

from channels.routing import ProtocolTypeRouter
from django.conf import settings
from django.core.asgi import get_asgi_application

from brokoli_site.common.body_length import BodyLength

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "brokoli_site.settings")

application = ProtocolTypeRouter({"http": BodyLength(get_asgi_application(), settings.MAX_PIPELINE_BYTES)})
