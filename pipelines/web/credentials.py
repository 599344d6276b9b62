"""What a connection of type `http` sends along with each request."""

import base64
from collections.abc import Mapping

from pipelines.vault import ConnectionDetails


def of(details: ConnectionDetails) -> dict[str, str]:
    """All of it: its headers, and who asks."""
    authorization = authorization_of(details)
    return {**headers_of(details), **({"Authorization": authorization} if authorization else {})}


def headers_of(details: ConnectionDetails) -> dict[str, str]:
    """The headers among its options."""
    found = details.extra.get("headers")
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, Mapping) else {}


def authorization_of(details: ConnectionDetails) -> str:
    """The value of the header `Authorization`: its token, else its login and password; "" where it has neither."""
    if details.extra.get("token"):
        return f"Bearer {details.extra['token']}"
    return basic(details.login, details.password) if details.login or details.password else ""


def basic(user: str, password: str) -> str:
    """The value of the header `Authorization` of RFC 7617."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
