"""Nodes against servers on loopback, which is allowed here."""

from typing import Any

import pytest

from brokoli_site.common.addresses import Allowed


@pytest.fixture(autouse=True)
def _loopback_is_allowed(settings: Any) -> None:
    settings.ALLOWED_NETWORKS = Allowed.read("127.0.0.1")
