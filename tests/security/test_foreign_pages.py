"""What a page of another origin can have a browser do that remembers a name and its password, as browsers do that were asked for them in a window."""

import base64
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from accounts.models import ApiToken
from pipelines.definitions import create
from pipelines.models import Pipeline

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]
PASSWORD = "correct horse battery"
FOREIGN = (
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://localhost:9"},
    {"origin": "http://localhost.evil.example"},
    {"origin": "https://localhost", "sec-fetch-site": "same-origin"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
)


@pytest.fixture
def browser() -> Client:
    User.objects.create_superuser("ada", password=PASSWORD)
    shown = base64.b64encode(f"ada:{PASSWORD}".encode()).decode()
    return Client(headers={"host": "localhost", "authorization": f"Basic {shown}"}, enforce_csrf_checks=True)


def test_a_foreign_form_changes_nothing_by_a_remembered_password(browser: Client) -> None:
    made = create({"name": "p"}).pipeline.id
    for headers in FOREIGN:
        for kind in ("application/x-www-form-urlencoded", "text/plain", "application/json"):
            answer = browser.post(f"/api/pipelines/{made}/clone", "", content_type=kind, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin"), (headers, kind)
        assert browser.delete(f"/api/pipelines/{made}", headers=headers).status_code == 403
    assert Pipeline.objects.live().count() == 1


def test_pages_of_the_server_and_programs_may(browser: Client) -> None:
    made = create({"name": "p"}).pipeline.id
    own: tuple[dict[str, str], ...] = (
        {},
        {"origin": "http://localhost"},
        {"origin": "HTTP://LOCALHOST", "sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
    )
    for headers in own:
        assert browser.post(f"/api/pipelines/{made}/clone", content_type="application/json", headers=headers).status_code == 201
    assert browser.get("/api/pipelines", headers={"origin": "http://evil.example"}).status_code == 200  # it may not read the answer


def test_pages_that_the_operator_trusts_may(browser: Client, settings: Any) -> None:
    made = create({"name": "p"}).pipeline.id
    settings.CSRF_TRUSTED_ORIGINS = ["https://ops.example"]
    headers = {"origin": "https://ops.example", "sec-fetch-site": "cross-site"}
    assert browser.post(f"/api/pipelines/{made}/clone", content_type="application/json", headers=headers).status_code == 201


def test_a_token_is_remembered_by_no_browser(browser: Client) -> None:
    secret = browser.post("/api/auth/tokens", {"name": "t"}, content_type="application/json").json()["token"]
    program = Client(headers={"host": "localhost", "authorization": f"Bearer {secret}", "origin": "http://evil.example"})
    assert program.post("/api/auth/logout").status_code == 204
    assert not ApiToken.objects.exists()
