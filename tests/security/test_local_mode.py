"""Who passes for the person at this machine, and who does not."""

import pytest
from django.contrib.auth import get_user_model
from django.test import Client, override_settings

from brokoli_site.common.local_mode import is_local

pytestmark = pytest.mark.any_database

LOCAL = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "localhost:8080"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"HTTP_HOST": "LOCALHOST"},
        {"HTTP_HOST": "[::1]:8080", "REMOTE_ADDR": "::1"},
        {"HTTP_HOST": "127.0.0.1:8080", "HTTP_ORIGIN": "http://127.0.0.1:8080", "HTTP_SEC_FETCH_SITE": "same-origin"},
    ],
)
def test_local(changes: dict[str, str]) -> None:
    assert is_local(LOCAL | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"REMOTE_ADDR": "192.0.2.1"},
        {"REMOTE_ADDR": ""},
        {"REMOTE_ADDR": "::ffff:192.0.2.1"},
        {"HTTP_HOST": ""},
        {"HTTP_HOST": "brokoli.example.org"},  # DNS rebinding: the page's own name, which now resolves to loopback
        {"HTTP_HOST": "localhost.example.org"},
        {"HTTP_HOST": "localhost:8080@example.org"},
        {"HTTP_HOST": "localhost:8080:80"},
        {"HTTP_ORIGIN": "null"},
        {"HTTP_ORIGIN": "http://example.org"},
        {"HTTP_ORIGIN": "http://localhost:3000"},
        {"HTTP_ORIGIN": "http://localhost:8080.example.org"},
        {"HTTP_ORIGIN": "http://localhost:8080@example.org"},
        {"HTTP_ORIGIN": "http://["},
        {"HTTP_ORIGIN": ""},
        {"HTTP_SEC_FETCH_SITE": "cross-site"},
        {"HTTP_SEC_FETCH_SITE": "same-site"},
        {"HTTP_X_FORWARDED_FOR": "192.0.2.1"},
        {"HTTP_X_FORWARDED_PROTO": "https"},
        {"HTTP_X_FORWARDED_SERVER": "proxy"},
        {"HTTP_FORWARDED": "for=192.0.2.1"},
        {"HTTP_X_REAL_IP": ""},
        {"HTTP_CF_CONNECTING_IP": "192.0.2.1"},
        {"HTTP_VIA": "1.1 proxy"},
    ],
)
def test_not_local(changes: dict[str, str]) -> None:
    assert not is_local(LOCAL | changes)


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "192.0.2.1", "brokoli.example.org", ""])
def test_a_server_that_others_reach_has_no_local_mode(bind: str) -> None:
    with override_settings(BIND=bind):
        assert not is_local(LOCAL)


@pytest.mark.django_db
def test_a_senseless_origin_is_refused_not_an_error(client: Client) -> None:
    assert client.get("/api/runs", headers={"host": "localhost", "origin": "http://["}).status_code == 401


@pytest.mark.django_db
def test_the_first_user_ends_it(client: Client) -> None:
    assert client.get("/api/runs", headers={"host": "localhost"}).status_code == 200
    get_user_model().objects.create_user("first")
    assert client.get("/api/runs", headers={"host": "localhost"}).status_code == 401
