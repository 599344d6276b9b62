"""Bodies against the real server: in chunks, too large, and without end."""

import itertools
import json
from collections.abc import Iterator

import pytest
import requests

from tests.conftest import StartServer

pytestmark = [pytest.mark.any_database, pytest.mark.slow]


def pieces(body: bytes, size: int = 1000) -> Iterator[bytes]:
    yield from (body[start : start + size] for start in range(0, len(body), size))


def test_bodies_of_every_length_are_answered(start_server: StartServer) -> None:
    server = start_server()
    url, headers = f"{server.url}/api/pipelines", {"Content-Type": "application/json"}

    chunked = requests.post(url, data=pieces(json.dumps({"name": "In chunks", "note": "x" * 5000}).encode()), headers=headers, timeout=20)
    assert (chunked.status_code, chunked.json()["name"]) == (201, "In chunks")

    for body in (b" " * (5 * 1024 * 1024 + 1), b" " * 10_000_000):
        for data in (body, pieces(body, 65536)):
            refused = requests.post(url, data=data, headers=headers, timeout=20)
            assert (refused.status_code, refused.json()["code"]) == (413, "too_large")

    with pytest.raises(requests.ConnectionError):
        requests.post(url, data=itertools.repeat(b" " * 1024 * 1024), headers=headers, timeout=60)
    assert requests.get(url, timeout=20).json()[0]["name"] == "In chunks"
