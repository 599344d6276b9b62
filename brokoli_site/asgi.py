"""The server's entry point: HTTP through Django, WebSockets through Channels."""

import os

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "brokoli_site.settings")

application = ProtocolTypeRouter({"http": get_asgi_application()})
