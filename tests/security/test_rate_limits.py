"""How often somebody may ask, and who uses up what."""

import base64
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache.backends.locmem import LocMemCache
from django.test import Client, RequestFactory, override_settings

from brokoli_site.common import rate_limits
from brokoli_site.common.rate_limits import Count, RateLimitsMiddleware, counters
from pipelines.models import Pipeline
from tests.factories import make_pipeline
from tests.security.test_event_socket import ORIGIN, Visit, basic, before_checks, cookie

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

NOW = 1_800_000_000 // 60 * 60 + 20  # 40 s before the end of a window
MINE, ANOTHER = "192.0.2.1", "192.0.2.2"


@pytest.fixture(autouse=True)
def small_limits(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    settings.RATE_LIMIT, settings.RATE_LIMIT_STRANGERS, settings.RATE_LIMIT_GUESSES = 5, 3, 2
    monkeypatch.setattr(rate_limits, "_clock", lambda: NOW)
    counters.ask(lambda cache: cache.clear())
    yield
    counters.ask(lambda cache: cache.clear())


def ask(address: str = MINE, password: str = "", client: Client | None = None, path: str = "/api/runs", method: str = "GET") -> Any:
    headers = {"host": "localhost"}
    if password:
        headers["authorization"] = "Basic " + base64.b64encode(f"root:{password}".encode()).decode()
    return (client or Client()).generic(method, path, headers=headers, REMOTE_ADDR=address)


def statuses(times: int, **arguments: Any) -> list[int]:
    return [ask(**arguments).status_code for _ in range(times)]


@pytest.fixture
def root() -> User:
    return User.objects.create_superuser("root", password="right")


def test_a_stranger_has_a_limit_by_address(root: User) -> None:
    assert statuses(4) == [401, 401, 401, 429]
    assert statuses(1, address=ANOTHER) == [401]
    assert statuses(1, path="/admin/login/") == [429]
    assert statuses(2, path="/livez") == [200, 200]
    file = ask(path="/static/api/docs.js")
    assert (file.status_code, b"".join(file)[:6]) == (200, b'"use s')


def test_what_is_left_stands_in_the_headers(root: User) -> None:
    first, *_, last = [ask() for _ in range(4)]

    assert first.headers["RateLimit-Policy"] == '"address";q=3;w=60'
    assert first.headers["RateLimit"] == '"address";r=2;t=40'
    assert [first.headers[f"X-RateLimit-{name}"] for name in ("Limit", "Remaining", "Reset")] == ["3", "2", "40"]
    assert "Retry-After" not in first.headers
    assert (last.headers["RateLimit"], last.headers["Retry-After"]) == ('"address";r=0;t=40', "40")
    assert (last.headers["Content-Type"], last.json()["code"]) == ("application/problem+json", "too_many_requests")
    assert "More than 3 requests within a minute" in last.json()["detail"]


def test_a_window_ends(root: User, monkeypatch: pytest.MonkeyPatch) -> None:
    assert statuses(4)[-1] == 429
    monkeypatch.setattr(rate_limits, "_clock", lambda: NOW + 40)
    assert statuses(1) == [401]


def test_a_user_has_a_limit_whatever_the_address(root: User) -> None:
    client = Client()
    client.force_login(root)
    assert statuses(5, client=client) == [200] * 5
    assert statuses(1, client=client, address=ANOTHER) == [429]
    assert ask(client=client).headers["RateLimit-Policy"] == '"user";q=5;w=60'
    other = Client()
    other.force_login(User.objects.create_superuser("other"))
    assert statuses(1, client=other) == [200]


def test_a_password_that_was_right_stands_for_its_user(root: User) -> None:
    """Strangers at the same address use up nothing of it."""
    assert statuses(1, password="right") == [200]
    assert statuses(3) == [401, 401, 429]
    assert statuses(5, password="right") == [200] * 5
    assert statuses(1, password="right") == [429]


def test_a_password_that_is_not_right_any_more_is_a_strangers(root: User) -> None:
    assert statuses(1, password="right") == [200]
    root.set_password("changed")
    root.save()
    assert statuses(1, password="right") == [401]
    assert statuses(2, password="right") == [401, 429]  # and the second wrong one of this address


def test_guessers_are_stopped_early(root: User) -> None:
    with override_settings(RATE_LIMIT_STRANGERS=0):
        assert statuses(3, password="wrong") == [401, 401, 429]
        refused = ask(password="wrong")
        assert refused.headers["RateLimit-Policy"] == '"guesses";q=2;w=60'
        assert "wrong password" in refused.json()["detail"]
        assert statuses(1, password="right") == [429]  # the right one among the wrong ones is one more guess
        assert statuses(1, path="/admin/login/", method="POST") == [429]
        assert statuses(1) == [401]  # who does not guess
        assert statuses(1, address=ANOTHER, password="right") == [200]


def test_forms_and_passwords_are_guessed_alike(root: User) -> None:
    with override_settings(RATE_LIMIT_STRANGERS=0):
        for _ in range(2):
            form = {"username": "root", "password": "wrong"}
            assert Client().post("/admin/login/", form, headers={"host": "localhost"}, REMOTE_ADDR=MINE).status_code == 200
        assert statuses(1, password="right") == [429]


def test_who_was_right_before_is_no_guesser(root: User) -> None:
    """Others at the same address guess; who is known goes on."""
    with override_settings(RATE_LIMIT_STRANGERS=0):
        assert statuses(1, password="right") == [200]
        assert statuses(3, password="wrong") == [401, 401, 429]
        assert statuses(1, password="right") == [200]


def test_tokens_of_webhooks_are_guessed_by_webhook(root: User) -> None:
    first, second = (f"/api/pipelines/{make_pipeline(name=name).pk}/webhook" for name in ("A", "B"))
    with override_settings(RATE_LIMIT_STRANGERS=0):
        assert statuses(3, method="POST", path=first) == [404, 404, 429]
        assert statuses(1, method="POST", path=second) == [404]
        assert statuses(1, method="POST", path=first, address=ANOTHER) == [404]
        assert statuses(1, password="right") == [200]
    assert Pipeline.objects.count() == 2


def test_many_credentials_are_one_stranger(root: User) -> None:
    with override_settings(RATE_LIMIT_GUESSES=0):
        assert [ask(password=f"wrong {n}").status_code for n in range(4)] == [401, 401, 401, 429]


def test_a_network_of_ipv6_is_one_stranger(root: User) -> None:
    assert [ask(address=f"2001:db8:0:1::{n}").status_code for n in range(1, 5)] == [401, 401, 401, 429]
    assert statuses(1, address="2001:db8:0:2::1") == [401]


def test_local_mode_has_no_limit() -> None:
    answers = [ask(address="127.0.0.1") for _ in range(8)]

    assert {answer.status_code for answer in answers} == {200}
    assert "RateLimit" not in answers[0].headers


@override_settings(RATE_LIMIT=0, RATE_LIMIT_STRANGERS=0, RATE_LIMIT_GUESSES=0)
def test_zero_is_no_limit(root: User) -> None:
    assert statuses(8) == [401] * 8
    assert statuses(3, password="wrong") == [401] * 3
    assert statuses(8, password="right") == [200] * 8
    assert "RateLimit" not in ask().headers


def test_a_flood_of_addresses_has_a_bound() -> None:
    own = counters._own
    assert isinstance(own, LocMemCache)
    for number in range(21_000):
        counters.add(f"address:{number}", 120)
        counters.add("user:1", 120)

    assert len(own._cache) <= 20_000  # type: ignore[attr-defined]
    assert counters.add("user:1", 120) == 21_001  # who is there all the time is not forgotten


@override_settings(REDIS_URL="redis://127.0.0.1:1/0")
def test_without_its_redis_a_process_counts_alone(root: User, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5}
    shared = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:1/0", "OPTIONS": options}
    monkeypatch.setitem(settings.CACHES, "shared_counters", shared)
    fresh = rate_limits.Counters()
    monkeypatch.setattr(rate_limits, "counters", fresh)

    assert statuses(4) == [401, 401, 401, 429]
    assert fresh._away_until > time.monotonic()


def test_it_costs_little(root: User) -> None:
    """Less than 0.2 ms a request; the fastest of many, since others use the machine as well."""
    request = RequestFactory().get("/api/runs", headers={"authorization": "Bearer " + "x" * 60})
    request.user = root  # as the view leaves it
    answered = Client().get("/livez")
    limited = RateLimitsMiddleware(lambda _: answered)
    with override_settings(RATE_LIMIT=10**6):
        times = []
        for _ in range(300):
            began = time.perf_counter()
            limited(request)
            times.append(time.perf_counter() - began)

    assert min(times) < 0.0002


# --- WebSockets -----------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_handshakes_count() -> None:
    User.objects.create_superuser("somebody", password="a long enough one")
    visits = [Visit(address=MINE).run() for _ in range(4)]

    assert [visit.status for visit in visits] == [401, 401, 401, 429]
    assert visits[-1].problem["code"] == "too_many_requests"
    assert visits[-1].answer[b"retry-after"] == b"40"


@pytest.mark.django_db(transaction=True)
def test_an_open_socket_costs_its_user_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """That its rights are looked at again and again is our doing."""
    somebody = User.objects.create_superuser("somebody")
    User.objects.create_user("another")
    monkeypatch.setattr("runs.consumers.RECHECK_SECONDS", 0.01)
    counted: list[Count | None] = []
    original = RateLimitsMiddleware._count

    def count(*given: Any, **options: Any) -> Count | None:
        counted.append(found := original(*given, **options))
        return found

    monkeypatch.setattr(RateLimitsMiddleware, "_count", count)
    before_checks(monkeypatch, {9: lambda: User.objects.filter(pk=somebody.pk).delete()})

    assert Visit({"origin": ORIGIN, **cookie(somebody)}, stays=True).run().code == 1008
    assert [count and count.used for count in counted] == [1]


@pytest.mark.django_db(transaction=True)
def test_a_user_has_so_many_sockets(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.MAX_SOCKETS_PER_USER = 1
    somebody = User.objects.create_superuser("somebody", password="a long enough one")
    monkeypatch.setattr("runs.consumers.RECHECK_SECONDS", 0.01)
    second, third = Visit(basic()), Visit(basic())

    def others_come() -> None:
        second.run()
        User.objects.filter(pk=somebody.pk).update(is_active=False)

    before_checks(monkeypatch, {2: others_come})
    assert Visit({"origin": ORIGIN, **cookie(somebody)}, stays=True).run().code == 1008
    User.objects.filter(pk=somebody.pk).update(is_active=True)

    assert (second.status, second.problem["code"], second.answer[b"retry-after"]) == (429, "too_many_requests", b"2")
    assert "BROKOLI_MAX_SOCKETS_PER_USER" in second.problem["detail"]
    assert third.run().status == 101  # the first has left
