"""`/login` and `/logout` for people."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]
PASSWORD = "correct horse battery"


@pytest.fixture
def browser() -> Client:
    User.objects.create_user("ada", password=PASSWORD)
    return Client(headers={"host": "localhost"}, enforce_csrf_checks=True)


def token(browser: Client) -> str:
    return browser.get("/login").cookies["csrftoken"].value


def test_logging_in_and_out(browser: Client) -> None:
    key = token(browser)
    wrong = browser.post("/login", {"username": "ada", "password": "no", "csrfmiddlewaretoken": key})
    assert wrong.status_code == 200 and "correct username and password" in wrong.content.decode()
    assert browser.post("/login", {"username": "ada", "password": PASSWORD}).status_code == 403
    answer = browser.post("/login", {"username": "ada", "password": PASSWORD, "next": "/api/docs", "csrfmiddlewaretoken": key})
    assert (answer.status_code, answer.headers["Location"]) == (302, "/api/docs")
    cookie = answer.cookies["sessionid"]
    assert cookie["httponly"] and cookie["samesite"] == "Lax"
    assert browser.get("/api/auth/me").json()["via"] == "session"
    assert browser.get("/logout").status_code == 405
    assert browser.post("/logout").status_code == 403
    gone = browser.post("/logout", {"csrfmiddlewaretoken": browser.cookies["csrftoken"].value})
    assert gone.status_code == 200 and "logged out" in gone.content.decode()
    assert browser.get("/api/auth/me").status_code == 401


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "http:evil.example"])
def test_it_leads_nowhere_else(browser: Client, target: str) -> None:
    answer = browser.post("/login", {"username": "ada", "password": PASSWORD, "next": target, "csrfmiddlewaretoken": token(browser)})
    assert (answer.status_code, answer.headers["Location"]) == (302, "/")


def test_the_page_has_nothing_inline(browser: Client) -> None:
    page = browser.get('/login?next="><script>alert(1)</script>').content.decode()
    assert "<script" not in page and "<style" not in page and "style=" not in page and "onclick" not in page
    style = browser.get("/static/accounts/page.css")
    assert style.status_code == 200
    style.close()


def test_the_documentation_leads_people_to_it_and_tells_programs(browser: Client) -> None:
    answer = browser.get("/api/docs", headers={"accept": "text/html,*/*"})
    assert (answer.status_code, answer.headers["Location"]) == (302, "/login?next=/api/docs")
    assert browser.get("/api/docs").status_code == 401


def test_whoever_is_in_already_goes_on() -> None:
    assert Client(headers={"host": "localhost"}).get("/login?next=/api/docs").headers["Location"] == "/api/docs"  # local mode
