"""First users, last administrators and guesses of a password: all at the same moment."""

import threading
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import transaction
from django.test import Client

from accounts import lockout, people, tokens
from accounts.models import ApiToken
from tests.people import person
from tests.races.test_races import at_once

pytestmark = pytest.mark.django_db(transaction=True)
PASSWORD = "correct horse battery"


def post(path: str, body: Any, client: Client | None = None) -> int:
    client = client or Client(headers={"host": "localhost"})
    return client.post(path, body, content_type="application/json").status_code


def test_one_of_many_makes_the_first_user() -> None:
    statuses = at_once(*[partial(post, "/api/auth/setup", {"username": f"first{n}", "password": PASSWORD}) for n in range(6)])
    assert statuses.count(201) == 1 and set(statuses) <= {201, 401, 409}, statuses
    assert User.objects.get().is_superuser


def test_nobody_is_set_up_beside_a_user_made_by_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", PASSWORD)
    command = partial(call_command, "createsuperuser", interactive=False, username="command", email="", verbosity=0)
    for n in range(5):
        User.objects.all().delete()
        status, _ = at_once(partial(post, "/api/auth/setup", {"username": f"first{n}", "password": PASSWORD}), command)
        # The command is the operator's, who may always make another; the setup never succeeds when it is not the first.
        if status == 201:
            assert list(User.objects.order_by("pk").values_list("username", flat=True)) == [f"first{n}", "command"]
        else:
            assert status in (401, 409) and User.objects.get().username == "command"


def test_two_administrators_do_not_demote_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    users = [person("admin") for _ in range(2)]
    clients = [Client(headers={"host": "localhost"}) for _ in users]
    for client, user in zip(clients, users, strict=True):
        client.force_login(user)
    both, original, mine = threading.Barrier(2), people.administrators, threading.local()

    def meet() -> Any:
        """Whoever has made the change, and is about to look who is left, waits a moment for the other, who must not get so far."""
        mine.looks = getattr(mine, "looks", 0) + 1
        if mine.looks == 2:
            with suppress(threading.BrokenBarrierError):
                both.wait(timeout=1)
        return original()

    monkeypatch.setattr(people, "administrators", meet)

    def demote(client: Client, user: User) -> int:
        return client.patch(f"/api/users/{user.pk}", {"roles": ["viewer"]}, content_type="application/json").status_code

    statuses = at_once(partial(demote, clients[0], users[1]), partial(demote, clients[1], users[0]))
    assert statuses.count(200) == 1, statuses
    assert User.objects.filter(groups__name="admin").count() == 1


def test_guesses_at_once_get_no_further_than_one_after_the_other() -> None:
    User.objects.create_user("ada", password=PASSWORD)
    guess = {"username": "ada", "password": "wrong"}
    statuses = at_once(*[partial(post, "/api/auth/login", guess)] * 16)
    assert (statuses.count(401), statuses.count(429)) == (lockout.OF_NAME_AND_ADDRESS, 16 - lockout.OF_NAME_AND_ADDRESS), statuses


def test_tokens_made_at_once_are_no_more_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MOST_NAMED", 3)
    user = User.objects.create_user("ada")
    clients = [Client(headers={"host": "localhost"}) for _ in range(6)]
    for client in clients:
        client.force_login(user)
    statuses = at_once(*[partial(post, "/api/auth/tokens", {"name": "t"}, client) for client in clients])
    assert (statuses.count(201), statuses.count(409), ApiToken.objects.count()) == (3, 3, 3), statuses


def test_a_database_that_is_busy_costs_a_token_nothing() -> None:
    user = User.objects.create_user("ada")
    token, secret = tokens.issue(user, ApiToken.Kind.NAMED, "t", lasts=timedelta(days=1))
    held, asked = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            ApiToken.objects.filter(pk=token.pk).update(name="held")
            held.set()
            assert asked.wait(30)

    def ask() -> int:
        assert held.wait(30)
        try:
            return Client(headers={"host": "localhost", "authorization": f"Bearer {secret}"}).get("/api/auth/me").status_code
        finally:
            asked.set()

    assert at_once(hold, ask) == [None, 200]
    assert ApiToken.objects.get().last_used_at is None
