"""A server behind a proxy that ends TLS: cookies, HSTS, redirects, whose address counts; and what `check --deploy` says of its settings."""

import re

import pytest
import requests
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import User
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.conftest import StartServer, StartWorker
from tests.programs import ROOT, free_port

pytestmark = [pytest.mark.any_database, pytest.mark.slow]

HOST = "brokoli.example.org"
THROUGH = {"Host": HOST, "X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}
KEY = "a key that is only good enough for tests, but long"


def production(**changes: str) -> dict[str, str]:
    """The environment that docs/deployment.md shows, but for the database and the home of this test."""
    page = (ROOT / "docs" / "deployment.md").read_text()
    shown = dict(line.split("=", 1) for line in re.findall(r"^[A-Z_]+=.*$", page.partition("```ini\n")[2].partition("```")[0], re.MULTILINE))
    assert {"BROKOLI_HTTPS", "BROKOLI_TRUSTED_PROXIES", "BROKOLI_SECRET_KEY", "BROKOLI_ALLOWED_HOSTS"} <= set(shown)
    return {name: value for name, value in shown.items() if name not in ("BROKOLI_HOME", "DATABASE_URL")} | {"BROKOLI_SECRET_KEY": KEY} | changes


def test_the_settings_of_the_documentation_are_clean(start_program: StartWorker) -> None:
    program = start_program("check", "--deploy", "--fail-level", "WARNING", **production())

    assert program.wait(60) == 0, program.output
    assert "no issues" in program.output


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"BROKOLI_HTTPS": "false"}, "brokoli.W001"),
        ({"BROKOLI_TRUSTED_PROXIES": ""}, "brokoli.W002"),
        ({"BROKOLI_ALLOWED_HOSTS": "*"}, "brokoli.E001"),
        ({"BROKOLI_TRUSTED_PROXIES": "0.0.0.0/0"}, "brokoli.E002"),
        ({"BROKOLI_DEBUG": "true"}, "security.W018"),
    ],
)
def test_others_are_not(start_program: StartWorker, changes: dict[str, str], found: str) -> None:
    program = start_program("check", "--deploy", "--fail-level", "WARNING", **production(**changes))

    assert program.wait(60) == 1
    assert found in program.output


def test_behind_a_proxy(start_program: StartWorker) -> None:
    # Hashed as the server does it, not the quick way of tests.
    User.objects.create(username="root", password=PBKDF2PasswordHasher().encode("correct horse", "salt"), is_staff=True, is_superuser=True)
    port = free_port()
    url = f"http://localhost:{port}"
    program = start_program("serve", "--port", str(port), "--workers", "0", **production(BROKOLI_ALLOWED_HOSTS=f"{HOST},localhost"))
    program.wait_for(lambda: answers(f"{url}/livez"), what="the server to answer")

    plain_http_is_shown_the_way(url)
    cookies_are_for_https_alone(url)
    sockets_too(f"ws://localhost:{port}/api/ws")


def answers(probe: str) -> bool:
    try:
        return requests.get(probe, timeout=5).status_code == 200
    except (requests.ConnectionError, requests.Timeout):
        return False


def plain_http_is_shown_the_way(url: str) -> None:
    outside = {"Host": HOST}
    shown = requests.get(f"{url}/admin/?x=1", headers=outside, allow_redirects=False, timeout=10)
    assert (shown.status_code, shown.headers["Location"]) == (301, f"https://{HOST}/admin/?x=1")
    assert "Strict-Transport-Security" not in shown.headers

    for answer in (
        requests.post(f"{url}/api/pipelines", json={}, headers=outside, timeout=10),
        requests.get(f"{url}/api/pipelines", headers=outside, auth=("root", "correct horse"), timeout=10),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "https_required")
        assert answer.headers["Content-Type"] == "application/problem+json"
    for probe in ("livez", "readyz", "health"):
        assert requests.get(f"{url}/{probe}", headers={"Host": "10.0.0.7"}, timeout=10).status_code == 200


def cookies_are_for_https_alone(url: str) -> None:
    page = requests.get(f"{url}/admin/login/", headers=THROUGH, timeout=10)
    assert page.status_code == 200
    assert page.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert "upgrade-insecure-requests" in page.headers["Content-Security-Policy"]
    token = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)[0]
    cookie = page.headers["Set-Cookie"]
    assert cookie.startswith("__Host-csrftoken=")

    login = requests.post(
        f"{url}/admin/login/?next=/admin/",
        data={"username": "root", "password": "correct horse", "csrfmiddlewaretoken": token},
        # Its Origin is the https one: that the server knows itself by, because it believes the proxy.
        headers={**THROUGH, "Origin": f"https://{HOST}", "Cookie": cookie.partition(";")[0]},
        allow_redirects=False,
        timeout=10,
    )
    assert login.status_code == 302, login.text
    session = next(cookie for cookie in login.raw.headers.getlist("Set-Cookie") if cookie.startswith("__Host-sessionid="))
    for given in (cookie, session):
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= {part.strip() for part in given.split(";")}, given
        assert "Domain" not in given
    signed_in = requests.get(f"{url}/api/runs", headers={**THROUGH, "Cookie": session.partition(";")[0]}, timeout=10)
    assert signed_in.status_code == 200


def sockets_too(address: str) -> None:
    credentials = {"Authorization": "Basic cm9vdDpjb3JyZWN0IGhvcnNl"}
    with pytest.raises(InvalidStatus) as refused:
        connect(address, additional_headers=credentials)
    assert refused.value.response.status_code == 403
    with connect(address, additional_headers={**credentials, "X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}):
        pass


def test_a_root_path_is_the_operators_to_choose(start_server: StartServer) -> None:
    """Daphne takes one from any client: every address that is made for an answer would begin with it."""
    server = start_server("--workers", "0")
    for headers in ({"Daphne-Root-Path": "//example.org"}, {"Daphne-Root-Path": "/api"}):
        answer = requests.get(f"{server.url}/", headers=headers, allow_redirects=False, timeout=10)
        assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/")
