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
from django.db.models.signals import pre_save
from django.test import Client

from accounts import lockout, people, tokens
from accounts.models import ApiToken
from tests.people import PASSWORD, person
from tests.races.test_races import at_once

pytestmark = pytest.mark.django_db(transaction=True)


def post(path: str, body: Any, client: Client | None = None) -> int:
    client = client or Client(headers={"host": "localhost"})
    return client.post(path, body, content_type="application/json").status_code


def test_one_of_many_makes_the_first_user() -> None:
    statuses = at_once(*[partial(post, "/api/auth/setup", {"username": f"first{n}", "password": PASSWORD}) for n in range(6)])
    assert statuses.count(201) == 1 and set(statuses) <= {201, 401, 409}, statuses
    assert User.objects.get().is_superuser


def test_a_command_makes_no_user_between_the_look_of_a_setup_and_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", PASSWORD)
    looked, commanded = threading.Event(), threading.Event()

    def wait_for_the_command(instance: User, **_: Any) -> None:
        """There was no user when the setup looked. Now the command has a second to make one, and must not get so far."""
        if instance.username == "first":
            looked.set()
            commanded.wait(timeout=1)

    def command() -> None:
        assert looked.wait(timeout=30)
        call_command("createsuperuser", interactive=False, username="command", email="", verbosity=0)
        commanded.set()

    pre_save.connect(wait_for_the_command, sender=User)
    try:
        status, failure = at_once(partial(post, "/api/auth/setup", {"username": "first", "password": PASSWORD}), command)
    finally:
        pre_save.disconnect(wait_for_the_command, sender=User)
    # The command is the operator's, who may always make another.
    assert (status, failure) == (201, None)
    assert list(User.objects.order_by("pk").values_list("username", flat=True)) == ["first", "command"]


def demote(client: Client, user: User) -> bool:
    return client.patch(f"/api/users/{user.pk}", {"roles": ["viewer"]}, content_type="application/json").status_code == 200


def take_the_password(client: Client, user: User) -> bool:
    body = {"password1": "", "password2": "", "usable_password": "false", "unset-password": "1"}
    return client.post(f"/admin/auth/user/{user.pk}/password/", body).status_code == 302


@pytest.mark.parametrize(("one", "other"), [(demote, demote), (take_the_password, take_the_password)])
def test_two_administrators_do_not_put_each_other_out(monkeypatch: pytest.MonkeyPatch, one: Any, other: Any) -> None:
    users = [person("admin") for _ in range(2)]
    User.objects.update(is_staff=True)
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

    done = at_once(partial(one, clients[0], users[1]), partial(other, clients[1], users[0]))
    assert done.count(True) == 1, done
    assert original().count() == 1


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
