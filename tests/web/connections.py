"""Connections of type http for nodes under test."""

import json
from typing import Any

from django.conf import settings

from pipelines.vault import StoredConnection, Vault


def http_vault(host: str, *, login: str = "", password: str = "", conn_id: str = "api", **extra: Any) -> Vault:
    """A vault with one connection; its password and `extra` are sealed."""
    sealed = settings.KEYRING.seal(json.dumps({"password": password, "extra": extra}), f"connection:{conn_id}")
    return Vault({}, {conn_id: StoredConnection(conn_id, "http", host, None, "", login, {}, sealed, f"connection:{conn_id}")})
