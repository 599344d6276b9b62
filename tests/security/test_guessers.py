"""Whoever guesses passwords is locked out: of each way in, for a while, and nobody else with them."""

import base64
import sys
from datetime import timedelta
from typing import Any

import pytest
from axes.models import AccessAttempt, AccessLog
from django.contrib.auth.hashers import MD5PasswordHasher
from django.contrib.auth.models import User
from django.db.models import F
from django.test import Client, override_settings

from accounts import lockout, tokens
from accounts.models import ApiToken

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def ada() -> User:
    return User.objects.create_superuser("ada", password=PASSWORD)


def by_login(name: str, password: str, address: str) -> Any:
    body = {"username": name, "password": password}
    return Client(headers={"host": "localhost"}).post("/api/auth/login", body, content_type="application/json", REMOTE_ADDR=address)


def by_basic(name: str, password: str, address: str) -> Any:
    shown = base64.b64encode(f"{name}:{password}".encode()).decode()
    return Client(headers={"host": "localhost", "authorization": f"Basic {shown}"}).get("/api/auth/me", REMOTE_ADDR=address)


def by_page(name: str, password: str, address: str) -> Any:
    return Client(headers={"host": "localhost"}).post("/login", {"username": name, "password": password}, REMOTE_ADDR=address)


def by_admin(name: str, password: str, address: str) -> Any:
    return Client(headers={"host": "localhost"}).post("/admin/login/", {"username": name, "password": password}, REMOTE_ADDR=address)


WAYS = (by_login, by_basic, by_page, by_admin)
HERE, THERE = "192.0.2.1", "198.51.100.7"


def let_in(answer: Any) -> bool:
    return answer.status_code in (200, 302) and (answer.status_code == 302 or "json" in answer.headers["Content-Type"])


@pytest.mark.parametrize("way", WAYS)
def test_each_way_in_locks_out_and_all_share_the_count(way: Any) -> None:
    for _ in range(lockout.OF_NAME_AND_ADDRESS):
        assert way("ada", "wrong", HERE).status_code in (200, 401)
    for other in WAYS:
        refused = other("ada", PASSWORD, HERE)
        assert (refused.status_code, 0 < int(refused.headers["Retry-After"]) <= 900) == (429, True)
        api = other in (by_login, by_basic)
        assert refused.headers["Content-Type"].startswith("application/problem+json" if api else "text/html")
        assert b"Too many wrong passwords. Try again in 15 minutes." in refused.content
    assert let_in(way("ada", PASSWORD, THERE))  # a stranger does not lock the right person out from elsewhere


def test_it_passes_and_a_right_password_clears_what_was_wrong_before() -> None:
    for _ in range(lockout.OF_NAME_AND_ADDRESS):
        by_login("ada", "wrong", HERE)
    assert by_login("ada", PASSWORD, HERE).status_code == 429
    AccessAttempt.objects.update(attempt_time=F("attempt_time") - lockout.COOL_OFF)
    assert by_login("ada", PASSWORD, HERE).status_code == 200
    for _ in range(3):
        for _ in range(lockout.OF_NAME_AND_ADDRESS - 1):
            assert by_login("ada", "wrong", HERE).status_code == 401
        assert by_login("ada", PASSWORD, HERE).status_code == 200


def test_refused_guesses_do_not_make_it_longer() -> None:
    for _ in range(lockout.OF_NAME_AND_ADDRESS):
        by_login("ada", "wrong", HERE)
    before = list(AccessAttempt.objects.order_by("pk").values())
    assert by_login("ada", "wrong", HERE).status_code == 429
    assert list(AccessAttempt.objects.order_by("pk").values()) == before


def test_one_address_that_guesses_many_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockout, "OF_ADDRESS", 8)
    assert [by_login(f"name{n}", "wrong", HERE).status_code for n in range(9)] == [401] * 8 + [429]
    assert by_login("ada", PASSWORD, HERE).status_code == 429
    assert by_login("ada", PASSWORD, THERE).status_code == 200


def test_a_right_password_in_between_does_not_help_the_guesser_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockout, "OF_ADDRESS", 8)
    statuses = []
    for n in range(9):
        statuses.append(by_login(f"name{n}", "wrong", HERE).status_code)
        by_login("ada", PASSWORD, HERE)
    assert statuses == [401] * 8 + [429]


def test_one_name_guessed_from_many_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockout, "OF_NAME", 6)
    assert by_login("ada", PASSWORD, THERE).status_code == 200
    assert [by_login("ada", "wrong", f"203.0.113.{n}").status_code for n in range(7)] == [401] * 6 + [429]
    assert by_login("ada", PASSWORD, HERE).status_code == 429  # from where she never was
    assert by_login("ada", PASSWORD, THERE).status_code == 200  # from where she is known


@pytest.mark.parametrize(("first", "second", "same"), [("2001:db8::1", "2001:db8::ffff:2", True), ("2001:db8::1", "2001:db8:0:1::1", False)])
def test_an_ipv6_network_is_one_address(first: str, second: str, same: bool) -> None:
    for _ in range(lockout.OF_NAME_AND_ADDRESS):
        by_login("ada", "wrong", first)
    assert (by_login("ada", PASSWORD, second).status_code == 429) is same


def test_an_ipv4_address_in_ipv6_clothes_is_the_same() -> None:
    for _ in range(lockout.OF_NAME_AND_ADDRESS):
        by_login("ada", "wrong", HERE)
    assert by_login("ada", PASSWORD, f"::ffff:{HERE}").status_code == 429


def test_tokens_and_sessions_are_not_locked_out(ada: User) -> None:
    session = Client(headers={"host": "localhost"}, REMOTE_ADDR=HERE)
    session.force_login(ada)
    _, secret = tokens.issue(ada, ApiToken.Kind.NAMED, "t", lasts=timedelta(days=1))
    for _ in range(lockout.OF_NAME_AND_ADDRESS + 1):
        by_login("ada", "wrong", HERE)
    token = Client(headers={"host": "localhost", "authorization": f"Bearer {secret}"}, REMOTE_ADDR=HERE)
    assert (session.get("/api/auth/me").status_code, token.get("/api/auth/me").status_code) == (200, 200)


def test_the_current_password_cannot_be_guessed_on_in_an_open_session(ada: User) -> None:
    session = Client(headers={"host": "localhost"}, REMOTE_ADDR=HERE)
    session.force_login(ada)
    body = {"current_password": "wrong", "new_password": "another long password"}
    statuses = [session.post("/api/auth/password", body, content_type="application/json").status_code for _ in range(lockout.OF_NAME_AND_ADDRESS + 1)]
    assert statuses == [400] * lockout.OF_NAME_AND_ADDRESS + [429]


def test_a_known_name_and_an_unknown_one_answer_alike() -> None:
    def answers(name: str) -> list[tuple[int, str]]:
        found = [by_login(name, "wrong", HERE) for _ in range(lockout.OF_NAME_AND_ADDRESS + 1)]
        return [(answer.status_code, answer.json()["detail"]) for answer in found]

    assert answers("ada") == answers("nobody")


def test_what_was_typed_as_a_name_is_kept_only_if_it_is_one() -> None:
    by_login(PASSWORD, "ada", HERE)
    by_login("ada", "wrong", HERE)
    kept = set(AccessAttempt.objects.values_list("username", flat=True))
    assert "ada" in kept and PASSWORD not in kept


def test_counters_are_forgotten() -> None:
    by_login("ada", "wrong", HERE)
    by_login("ada", PASSWORD, THERE)
    assert (lockout.prune(), AccessLog.objects.count()) == (0, 1)
    AccessAttempt.objects.update(attempt_time=F("attempt_time") - lockout.COOL_OFF)
    AccessLog.objects.update(attempt_time=F("attempt_time") - timedelta(days=31))
    lockout.prune()
    assert not AccessAttempt.objects.exists() and not AccessLog.objects.exists()


class CountingHasher(MD5PasswordHasher):
    """Counts how often a password is hashed: that is what a login's time is made of."""

    hashed = 0

    def encode(self, password: str, salt: str) -> str:
        CountingHasher.hashed += 1
        return super().encode(password, salt)


@pytest.mark.parametrize("name", ["ada", "nobody", "gone", "without"])
def test_who_cannot_log_in_is_told_so_in_the_same_time(name: str) -> None:
    with override_settings(PASSWORD_HASHERS=[f"{__name__}.CountingHasher"]):
        for user in (User.objects.get(), User(username="gone", is_active=False)):
            user.set_password(PASSWORD)
            user.save()
        User.objects.create_user("without")
        module = sys.modules[__name__]
        before = module.CountingHasher.hashed
        assert by_login(name, "wrong", HERE).status_code == 401
        assert module.CountingHasher.hashed - before == 1
