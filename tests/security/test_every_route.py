"""Every route of the API asks for a right by name, and stands in the lists of who may do what."""

import re
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from brokoli_site.common.api import ApiView
from tests.security import test_connection_routes, test_pipeline_routes, test_run_rights

pytestmark = pytest.mark.any_database

# Signed in is enough: it is the description of the API, or of what the server understands, and the same for everybody.
FOR_ANYBODY_SIGNED_IN = {"GET /api/schema", "GET /api/docs", "GET /api/capabilities"}
# Asks for the token of its pipeline; `test_webhooks.py` has what it tells those who do not know it.
FOR_STRANGERS = {"POST /api/pipelines/*/webhook", "POST /api/auth/login", "GET /api/auth/setup"}
# Of one's own: `tests/api/test_accounts.py` has what each answers, and what it does not to a program's token.
OF_ONES_OWN = {
    *("POST /api/auth/logout", "GET /api/auth/me", "GET /api/auth/me/permissions", "POST /api/auth/password"),
    *("GET /api/auth/tokens", "POST /api/auth/tokens", "DELETE /api/auth/tokens/*"),
}
ACCOUNTS = {
    "POST /api/auth/setup": "settings.manage_users",
    "GET /api/roles": "settings.view",
    "GET /api/users": "settings.manage_users",
    "POST /api/users": "settings.manage_users",
    "GET /api/users/*": "settings.manage_users",
    "PATCH /api/users/*": "settings.manage_users",
    "DELETE /api/users/*": "settings.manage_users",
}
# Asks for one of two more rights; `tests/api/test_dry_runs.py` and `test_connection_routes.py` have who may.
ASKS_FOR_MORE = {"POST /api/pipelines/dry-run", "POST /api/connections/test"}
ID = "019a9f3c-5b1e-7c42-9d0e-2f6a4c1b8e70"


def routes(patterns: list[URLPattern | URLResolver] | None = None, prefix: str = "/") -> Iterator[tuple[str, type]]:
    """The address, with `*` for what varies, and the view of each route below `/api`."""
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        text = re.sub(r"\(\?P<\w+>[^)]*\)", "*", str(pattern.pattern)).strip("^$")  # of those written as regular expressions
        address = prefix + re.sub(r"<[^>]*>", "*", text)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, address)
        elif address.startswith("/api"):
            yield address, pattern.callback.view_class  # type: ignore[attr-defined]


def calls() -> dict[str, str]:
    """The right of each call, `GET /api/runs/*`."""
    found = {}
    for address, view in routes():
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            if hasattr(view, method.lower()):
                found[f"{method} {address}"] = getattr(view, "required_permissions", {}).get(method, "")
    return found


CALLS = calls()


def listed() -> dict[str, str]:
    pipelines = {re.sub(r"/(ID|1)(?=/|$)", "/*", name): f"pipelines.{right}" for name, right in test_pipeline_routes.CALLS.items()}
    runs = {f"{method} {re.sub(r'{[^}]*}|first$|(?<=nodes/)first|warehouse', '*', path)}": right for method, path, right in test_run_rights.CALLS}
    stored = {name.replace("/ID", "/*"): right for name, right in test_connection_routes.CALLS.items()}
    return {name.partition("?")[0]: right for name, right in (pipelines | runs | stored | ACCOUNTS).items()}


def test_there_are_routes() -> None:
    assert len(CALLS) > 40


def test_outside_of_the_api_there_is_little() -> None:
    """`tests/api/test_health.py` and `test_metrics.py` have who may see what of these two; the admin asks for a login by itself."""
    tops = {str(pattern.pattern) for pattern in get_resolver().url_patterns}
    assert {top for top in tops if not top.startswith("api/")} == {"health", "metrics", "login", "logout", "admin/", ""}


def test_every_call_names_its_right() -> None:
    assert {name for name, right in CALLS.items() if not right} == FOR_ANYBODY_SIGNED_IN | FOR_STRANGERS | OF_ONES_OWN
    assert all(issubclass(view, ApiView) for address, view in routes() if f"GET {address}" not in FOR_ANYBODY_SIGNED_IN)


def test_every_call_stands_in_a_list_with_that_right() -> None:
    assert listed() == {name: right for name, right in CALLS.items() if right and name not in ASKS_FOR_MORE}


@pytest.mark.django_db
@pytest.mark.parametrize("name", sorted(set(CALLS) - FOR_STRANGERS - OF_ONES_OWN))
def test_a_stranger_and_whoever_has_no_right_get_nowhere(name: str) -> None:
    user = User.objects.create_user("somebody")
    method, address = name.split()
    assert call(Client(), method, address) == 401
    client = Client()
    client.force_login(user)
    assert call(client, method, address) == (200 if name in FOR_ANYBODY_SIGNED_IN else 403)


@pytest.mark.django_db
@pytest.mark.parametrize("name", sorted(set(CALLS) - FOR_ANYBODY_SIGNED_IN - FOR_STRANGERS - OF_ONES_OWN))
def test_all_other_rights_together_are_not_enough(name: str) -> None:
    user = User.objects.create_user("somebody")
    app, codename = CALLS[name].split(".")
    others = Permission.objects.exclude(content_type__app_label=app, codename=codename)
    assert others.count() == Permission.objects.count() - 1
    user.user_permissions.set(others)
    client = Client()
    client.force_login(user)
    assert call(client, *name.split()) == 403


def call(client: Client, method: str, address: str) -> int:
    sent = client.generic(
        method, address.replace("versions/*", "versions/1").replace("*", ID), b"{}", content_type="application/json", headers={"host": "localhost"}
    )
    return sent.status_code
