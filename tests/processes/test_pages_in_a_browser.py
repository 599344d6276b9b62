"""Every page in a real browser: nothing that it needs is forbidden, and what is forbidden does not happen."""

from collections.abc import Iterator

import pytest
from django.contrib import admin
from django.urls import reverse

from tests.browser import Page, browsing
from tests.conftest import StartServer
from tests.factories import accept_run, register_worker

pytestmark = [pytest.mark.any_database, pytest.mark.slow]


@pytest.fixture
def page() -> Iterator[Page]:
    with browsing() as found:
        yield found


def pages() -> Iterator[str]:
    yield from ("/", "/api/docs", "/api/schema", "/api/runs", "/health", "/none", "/admin/login/", "/login")
    for model in admin.site._registry:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        yield from (reverse(f"{name}_changelist"), reverse(f"{name}_add"))
        yield from (reverse(f"{name}_{view}", args=[row.pk]) for row in model._default_manager.all()[:1] for view in ("change", "delete", "history"))


def test_pages(start_server: StartServer, page: Page) -> None:
    """One server and one browser for all: both take long to start."""
    server = start_server("--workers", "0")
    accept_run()
    register_worker()

    no_page_needs_what_the_policy_forbids(page, server.url)
    the_documentation_shows_the_calls(page, server.url)
    scripts_and_styles_in_a_page_do_nothing(page, server.url)


def no_page_needs_what_the_policy_forbids(page: Page, server: str) -> None:
    complaints = {}
    for address in pages():
        page.open(f"{server}{address}")
        # Pages that may not be opened, or are not there, are complained of, too; here it is about what they load.
        if found := [error for error in page.settle() if not error.startswith("Failed to load resource: the server responded with a status of 40")]:
            complaints[address] = found
    assert complaints == {}


def the_documentation_shows_the_calls(page: Page, server: str) -> None:
    page.open(f"{server}/api/docs")

    assert page.evaluate(
        """new Promise((done) => {
            const look = () => document.querySelectorAll(".opblock").length > 40 ? done(true) : setTimeout(look, 50);
            look();
        })"""
    )
    assert page.settle() == []


def scripts_and_styles_in_a_page_do_nothing(page: Page, server: str) -> None:
    """And the browser tells of them: what it told nothing of before did not happen."""
    page.open(f"{server}/admin/")
    assert page.settle() == []

    page.evaluate(
        """const script = document.createElement("script"); script.textContent = "window.intruder = 1"; document.body.append(script);
        document.body.insertAdjacentHTML("beforeend", '<p id="p" style="color: rgb(1, 2, 3)">x</p>');
        document.body.insertAdjacentHTML("beforeend", '<img src="/none.png" onerror="window.intruder = 2">');"""
    )

    assert page.evaluate("new Promise(done => setTimeout(() => done(window.intruder || 0), 300))") == 0
    assert page.evaluate("getComputedStyle(document.getElementById('p')).color") != "rgb(1, 2, 3)"
    assert {"script-src-elem", "script-src-attr", "style-src-attr"} <= {word for error in page.settle() for word in error.replace('"', " ").split()}
