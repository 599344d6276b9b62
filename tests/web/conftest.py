"""Nodes against servers on loopback, which is allowed here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from brokoli_site.common.addresses import Allowed
from tests.contracts.workshop import Workshop


@pytest.fixture(autouse=True)
def _loopback_is_allowed(settings: Any) -> None:
    settings.ALLOWED_NETWORKS = Allowed.read("127.0.0.1")


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    made = Workshop(tmp_path)
    yield made
    made.close()
