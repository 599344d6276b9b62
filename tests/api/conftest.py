"""A client as `curl` on a fresh machine: no login, JSON, the local host."""

import pytest
from django.test import Client


@pytest.fixture
def api() -> Client:
    return Client(headers={"host": "localhost:8080"})
