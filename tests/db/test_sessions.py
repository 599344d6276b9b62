"""What the database keeps of a session lets nobody in."""

import asyncio

import pytest
from django.contrib.sessions.models import Session
from django.test import Client

from accounts.sessions import SessionStore
from tests.people import person


@pytest.mark.django_db
def test_a_session_is_kept_under_a_digest_of_its_key() -> None:
    browser, thief = Client(headers={"host": "localhost"}), Client(headers={"host": "localhost"})
    browser.force_login(person("viewer"))
    key, kept = browser.cookies["sessionid"].value, Session.objects.get().session_key
    assert browser.get("/api/auth/me").status_code == 200
    assert key != kept and key not in str(Session.objects.values())
    thief.cookies["sessionid"] = kept
    assert thief.get("/api/auth/me").status_code == 401
    assert SessionStore().exists(key) and not SessionStore().exists(kept)
    browser.logout()
    assert not Session.objects.exists()


@pytest.mark.any_database
@pytest.mark.django_db(transaction=True)
def test_the_asynchronous_calls_find_the_same_row() -> None:
    async def kept() -> str:
        store = SessionStore()
        await store.aset("name", "ada")
        await store.acreate()
        await store.aset("name", "ada")
        await store.asave()
        return str(store.session_key)

    async def end() -> tuple[bool, object, bool]:
        store = SessionStore(key)
        found = await store.aexists(key), await store.aget("name")
        await store.adelete()
        return *found, await store.aexists(key)

    key = asyncio.run(kept())
    assert SessionStore(key)["name"] == "ada"
    assert SessionStore("another key").get("name") is None
    assert asyncio.run(end()) == (True, "ada", False)
