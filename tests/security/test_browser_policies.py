"""What browsers are told with every answer, and that no page of ours needs to be allowed what the policy forbids."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client, override_settings
from django.urls import get_resolver, reverse

from tests.factories import accept_run
from tests.programs import ROOT

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

ID = "019a9f3c-5b1e-7c42-9d0e-2f6a4c1b8e70"
OF_MACHINES = ["/livez", "/readyz", "/health", "/metrics"]
FILES = ["/static/api/docs.js", "/static/admin/css/base.css", "/static/admin/img/icon-yes.svg", "/static/none"]
STRANGE = ["/none", "/api/none", "/%00", "/api/runs?x=1", "/api/runs/%00"]
# Scripts, styles and handlers within a page, and addresses that are scripts.
INLINE = re.compile(r"<script(?![^>]*\bsrc=)|<style|\sstyle\s*=|\son[a-z]+\s*=\s*[\"']|(?:href|src|action)\s*=\s*[\"']?\s*javascript:", re.IGNORECASE)


def addresses() -> Iterator[str]:
    """One of every route that answers a GET."""
    for route in get_resolver().reverse_dict.lists():
        for possibility in route[1][0][0]:
            template, names = possibility
            yield "/" + template % dict.fromkeys(names, ID)
    yield from (*OF_MACHINES, *FILES, *STRANGE)


def admin_pages() -> Iterator[str]:
    yield from (reverse("admin:index"), reverse("admin:login"), reverse("admin:password_change"), reverse("admin:jsi18n"))
    for model in admin.site._registry:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        yield from (reverse(f"{name}_changelist"), reverse(f"{name}_add"))
        yield from (reverse(f"{name}_{view}", args=[row.pk]) for row in model._default_manager.all()[:1] for view in ("change", "delete", "history"))


@pytest.fixture
def administrator(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root"))
    return client


def policy(response: Any) -> dict[str, list[str]]:
    text = response.headers.get("Content-Security-Policy", "")
    return {words[0]: words[1:] for words in (part.split() for part in text.split(";")) if words}


def check(response: Any, address: str) -> None:
    """That this answer says all that it should."""
    headers = response.headers
    found = policy(response)
    assert found.get("default-src") == ["'none'"], address
    assert found["frame-ancestors"] == ["'none'"], address
    assert not {"'unsafe-inline'", "'unsafe-eval'", "*", "https:", "http:"} & {word for words in found.values() for word in words}, address
    if headers.get("Content-Type", "").startswith("text/html"):
        assert found["script-src"] == found["style-src"] == found["form-action"] == ["'self'"], address
        assert found["base-uri"] == ["'none'"], address
        assert not INLINE.findall(response.text), address
    else:
        assert set(found) == {"default-src", "frame-ancestors"}, address
    for name, value in {
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }.items():
        assert headers.get(name) == value, (address, name)
    assert "camera=()" in headers["Permissions-Policy"], address
    assert "Content-Security-Policy-Report-Only" not in headers, address
    assert not address.startswith("/api/") or headers["Cache-Control"] == "no-store", address


def test_every_answer_has_a_policy_and_every_page_keeps_to_it(administrator: Client) -> None:
    run = accept_run()
    asked = sorted({*addresses(), *admin_pages()})
    assert {reverse("admin:runs_run_change", args=[run.pk]), "/api/docs", "/api/runs", "/livez"} <= set(asked)
    pages = 0
    for address in asked:
        for client in (administrator,) if address.startswith("/admin/") and "login" not in address else (administrator, Client()):
            response = client.get(address, headers={"host": "localhost"})
            check(response, address)
            b"".join(response)  # a file is open until it is read
            pages += response.status_code == 200 and response.headers["Content-Type"].startswith("text/html")
    assert pages > 2 * len(admin.site._registry)


@override_settings(DEBUG=False)
def test_so_have_errors_that_nobody_foresaw(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brokoli_site.common.local_mode.is_local", lambda _: 1 / 0)
    client.raise_request_exception = False
    response = client.get("/api/runs", headers={"host": "localhost"})

    assert response.status_code == 500
    check(response, "/api/runs")


def test_a_form_from_elsewhere_is_refused_on_a_page_without_either() -> None:
    response = Client(enforce_csrf_checks=True).post("/admin/login/", {"username": "a"}, headers={"host": "localhost"})

    assert (response.status_code, INLINE.findall(response.text)) == (403, [])
    assert "BROKOLI_TRUSTED_ORIGINS" in response.text


@pytest.mark.parametrize("page", sorted(ROOT.glob("templates/**/*.html")) + sorted(ROOT.glob("*/templates/**/*.html")), ids=lambda path: path.name)
def test_no_template_of_ours_has_either(page: Path) -> None:
    assert not INLINE.findall(page.read_text())


def test_the_setting_has_what_the_header_has() -> None:
    assert "unsafe" not in str(settings.CONTENT_SECURITY_POLICY)
    assert not getattr(settings, "CONTENT_SECURITY_POLICY_REPORT_ONLY", None)
