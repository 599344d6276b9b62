"""Logging in and out, tokens, users: over HTTP."""

import base64
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.utils.timezone import now

from accounts import tokens
from accounts.models import ApiToken
from accounts.roles import RIGHTS, ROLES
from system.models import AuditEntry
from tests.people import PASSWORD, person, signed_in, signed_in_as

pytestmark = pytest.mark.django_db
JSON = "application/json"


def client() -> Client:
    return Client(headers={"host": "localhost"}, enforce_csrf_checks=True)


def bearer(secret: str) -> Client:
    return Client(headers={"host": "localhost", "authorization": f"Bearer {secret}"}, enforce_csrf_checks=True)


def basic(name: str, password: str) -> Client:
    return Client(headers={"host": "localhost", "authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()})


def token_of(user: User, scopes: list[str] | None = None, **options: Any) -> str:
    return tokens.issue(user, options.pop("kind", ApiToken.Kind.NAMED), "t", lasts=timedelta(days=1), scopes=scopes)[1]


@pytest.fixture
def ada() -> User:
    user = User.objects.create_user("ada", "ada@example.org", PASSWORD)
    user.groups.add(Group.objects.get(name="editor"))
    return user


def login(name: str = "ada", password: str = PASSWORD, **meta: Any) -> Any:
    return client().post("/api/auth/login", {"username": name, "password": password}, content_type=JSON, **meta)


def test_a_login_answers_a_token_that_works(ada: User) -> None:
    answer = login()
    body = answer.json()
    assert (answer.status_code, answer.headers["Cache-Control"], set(answer.cookies)) == (200, "no-store", set())
    assert body["token"].startswith("brk_") and body["user"]["username"] == "ada"
    mine = bearer(body["token"])
    assert mine.get("/api/auth/me").json() == {**body["user"], "last_login": mine.get("/api/auth/me").json()["last_login"], "via": "token"}
    assert mine.get("/api/auth/me/permissions").json() == {"role": "editor", "permissions": sorted(ROLES["editor"])}
    made = mine.post("/api/pipelines", {"name": "p"}, content_type=JSON)  # a token needs no CSRF
    assert made.status_code == 201
    assert (mine.post("/api/auth/logout").status_code, mine.get("/api/auth/me").status_code) == (204, 401)


@pytest.mark.parametrize(
    ("name", "password"), [("ada", "wrong"), ("nobody", PASSWORD), ("ADA", PASSWORD), ("gone", PASSWORD), ("ada", PASSWORD + " ")]
)
def test_all_wrong_logins_look_alike(ada: User, name: str, password: str) -> None:
    User.objects.create_user("gone", password=PASSWORD, is_active=False)
    answer = login(name, password)
    problem = answer.json()
    assert (answer.status_code, problem["detail"], answer.headers["Content-Type"]) == (401, "Name or password is wrong.", "application/problem+json")
    assert "Basic" in answer.headers["WWW-Authenticate"] or "Bearer" in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    "body",
    [{}, {"username": "a"}, {"username": "a\0", "password": "b"}, {"username": 5, "password": "b"}, [], {"username": "a", "password": "b", "x": 1}],
)
def test_a_login_that_is_none_is_400(ada: User, body: Any) -> None:
    assert client().post("/api/auth/login", body, content_type=JSON).status_code == 400


def test_a_wrong_token_is_401_and_says_how_to_do_better(ada: User) -> None:
    good = token_of(ada)
    assert bearer(good).get("/api/runs").status_code == 200
    for wrong in ("", "x", good + "0", good[:-1], good.upper(), "brk_", "brk_" + "é", f"{good} {good}"):
        answer = bearer(wrong).get("/api/runs")
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="Brokoli", error="invalid_token"'), wrong


def test_a_wrong_token_is_not_made_good_by_a_session(ada: User) -> None:
    mine = bearer("brk_wrong")
    mine.force_login(ada)
    assert mine.get("/api/auth/me").status_code == 401


def test_what_ends_a_token(ada: User) -> None:
    def ended(secret: str) -> bool:
        return bearer(secret).get("/api/auth/me").status_code == 401

    expired = token_of(ada)
    ApiToken.objects.update(expires_at=now())
    assert ended(expired)
    deleted, kept = token_of(ada), token_of(ada)
    row = ApiToken.objects.get(hint=deleted[:10], expires_at__gt=now()) if deleted[:10] != kept[:10] else ApiToken.objects.first()
    assert row is not None
    session = Client(headers={"host": "localhost"})
    session.force_login(ada)
    assert session.delete(f"/api/auth/tokens/{row.pk}").status_code == 204
    assert session.delete(f"/api/auth/tokens/{row.pk}").status_code == 404
    assert (ended(deleted), ended(kept)) == (True, False)
    User.objects.update(is_active=False)
    assert ended(kept)
    User.objects.update(is_active=True)
    assert not ended(kept)
    for active in (False, True):
        ada.is_active = active
        ada.save()
        assert ended(kept)
    another = token_of(ada)
    ada.set_password("another long password")
    ada.save()
    assert ended(another)


def test_a_token_is_kept_as_a_digest_and_shown_once(ada: User) -> None:
    session = Client(headers={"host": "localhost"})
    session.force_login(ada)
    made = session.post("/api/auth/tokens", {"name": "nightly", "scopes": ["runs.view"], "expires_in_days": 7}, content_type=JSON)
    secret = made.json()["token"]
    assert made.status_code == 201
    (row,) = ApiToken.objects.values()
    assert secret not in str(row) and secret[4:] not in str(row)
    (listed,) = session.get("/api/auth/tokens").json()
    assert listed == {key: value for key, value in made.json().items() if key != "token"}
    assert abs(ApiToken.objects.get().expires_at - now() - timedelta(days=7)) < timedelta(minutes=1)


def test_scopes_only_ever_narrow(ada: User) -> None:
    secret = token_of(ada, ["runs.view", "settings.edit"])
    mine = bearer(secret)
    assert mine.get("/api/auth/me/permissions").json()["permissions"] == ["runs.view"]
    assert mine.get("/api/runs").status_code == 200
    assert mine.get("/api/pipelines").status_code == 403
    assert mine.post("/api/system/purge", {"days": 1}, content_type=JSON).status_code == 403
    assert mine.get("/api/search?q=ada").status_code == 403
    ada.is_superuser = True
    ada.save()
    assert mine.get("/api/auth/me/permissions").json()["permissions"] == ["runs.view", "settings.edit"]
    assert mine.get("/api/pipelines").status_code == 403


def test_a_scope_that_the_user_lacks_is_refused() -> None:
    answer = signed_in_as("viewer").post("/api/auth/tokens", {"name": "t", "scopes": ["runs.view", "runs.cancel"]}, content_type=JSON)
    assert (answer.status_code, "runs.cancel" in answer.json()["detail"]) == (403, True)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "a", "scopes": []},
        {"name": "a", "scopes": ["x"]},
        {"name": "a", "expires_in_days": 0},
        {"name": "a", "expires_in_days": 3651},
    ],
)
def test_a_token_that_cannot_be(body: dict[str, Any]) -> None:
    assert signed_in_as("viewer").post("/api/auth/tokens", body, content_type=JSON).status_code == 400


def test_a_programs_token_manages_no_tokens_and_no_password(ada: User) -> None:
    mine = bearer(token_of(ada))
    assert mine.post("/api/auth/tokens", {"name": "t"}, content_type=JSON).status_code == 403
    assert mine.delete(f"/api/auth/tokens/{ApiToken.objects.get().pk}").status_code == 403
    body = {"current_password": PASSWORD, "new_password": "another long password"}
    assert mine.post("/api/auth/password", body, content_type=JSON).status_code == 403
    assert bearer(token_of(ada, kind=ApiToken.Kind.LOGIN)).post("/api/auth/tokens", {"name": "t"}, content_type=JSON).status_code == 201


def test_a_user_has_so_many_tokens_and_no_more(ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MOST_NAMED", 2)
    monkeypatch.setattr(tokens, "MOST_LOGINS", 2)
    session = Client(headers={"host": "localhost"})
    session.force_login(ada)
    statuses = [session.post("/api/auth/tokens", {"name": f"t{n}"}, content_type=JSON).status_code for n in range(3)]
    assert statuses == [201, 201, 409]
    logins = [login().json()["token"] for _ in range(3)]
    assert [bearer(secret).get("/api/auth/me").status_code for secret in logins] == [401, 200, 200]
    assert ApiToken.objects.count() == 4


def test_the_last_use_is_noted_once_a_minute(ada: User, django_assert_num_queries: Any) -> None:
    secret = token_of(ada)
    assert bearer(secret).get("/api/auth/me").status_code == 200
    first = ApiToken.objects.get().last_used_at
    assert first is not None
    bearer(secret).get("/api/auth/me")
    assert ApiToken.objects.get().last_used_at == first
    ApiToken.objects.update(last_used_at=first - timedelta(seconds=61))
    bearer(secret).get("/api/auth/me")
    again = ApiToken.objects.get().last_used_at
    assert again is not None and again >= first


def test_tokens_that_have_expired_are_forgotten(ada: User) -> None:
    token_of(ada)
    ApiToken.objects.update(expires_at=now() - timedelta(seconds=1))
    token_of(person("viewer"))
    assert (tokens.prune(now()), ApiToken.objects.count()) == (1, 1)


def test_sessions_need_csrf_and_end_with_the_logout(ada: User) -> None:
    session = client()
    session.force_login(ada)
    assert session.get("/api/auth/me").json()["via"] == "session"
    assert session.post("/api/auth/logout").status_code == 403
    session.get("/login?next=/")
    relaxed = Client(headers={"host": "localhost"})
    relaxed.force_login(ada)
    assert (relaxed.post("/api/auth/logout").status_code, relaxed.get("/api/auth/me").status_code) == (204, 401)


def test_changing_ones_own_password_ends_all_that_was_open(ada: User) -> None:
    session, other, secret = Client(headers={"host": "localhost"}), Client(headers={"host": "localhost"}), token_of(ada)
    session.force_login(ada)
    other.force_login(ada)

    def change(current: str, new: str) -> Any:
        return session.post("/api/auth/password", {"current_password": current, "new_password": new}, content_type=JSON)

    assert change("wrong", "another long password").json()["errors"][0]["pointer"] == "/current_password"
    weak = change(PASSWORD, "password")
    assert {error["pointer"] for error in weak.json()["errors"]} == {"/new_password"} and len(weak.json()["errors"]) == 2
    assert change(PASSWORD, "another long password").status_code == 204
    assert [each.get("/api/auth/me").status_code for each in (session, other, bearer(secret))] == [401, 401, 401]
    assert (login().status_code, login(password="another long password").status_code) == (401, 200)


def test_basic_authentication(ada: User) -> None:
    assert basic("ada", PASSWORD).get("/api/auth/me").json()["via"] == "basic"
    for name, password in (("ada", "wrong"), ("a\0da", PASSWORD), ("", ""), ("é", "x")):
        assert basic(name, password).get("/api/auth/me").status_code == 401


# --- local mode and the first user ------------------------------------------------------------------------------------


def test_the_first_user_is_made_from_this_machine_only() -> None:
    stranger = Client(headers={"host": "localhost"}, REMOTE_ADDR="192.0.2.1")
    body = {"username": "root", "password": PASSWORD}
    assert stranger.get("/api/auth/setup").json() == {"needed": True}
    assert stranger.post("/api/auth/setup", body, content_type=JSON).status_code == 401
    here = Client(headers={"host": "localhost"})
    assert here.get("/api/auth/me").json()["via"] == "local"
    assert here.get("/api/auth/me/permissions").json() == {"role": "admin", "permissions": list(RIGHTS)}
    assert here.post("/api/users", body, content_type=JSON).status_code == 409
    assert here.post("/api/auth/tokens", {"name": "t"}, content_type=JSON).status_code == 403
    assert here.post("/api/auth/setup", {**body, "password": "root"}, content_type=JSON).json()["errors"][0]["pointer"] == "/password"
    assert here.post("/api/auth/setup", {**body, "username": "a b"}, content_type=JSON).json()["errors"][0]["pointer"] == "/username"
    made = here.post("/api/auth/setup", body, content_type=JSON)
    assert made.status_code == 201
    assert here.get("/api/auth/me").status_code == 401
    root = bearer(made.json()["token"])
    assert root.get("/api/auth/me").json()["role"] == "admin"
    assert root.post("/api/auth/setup", {**body, "username": "second"}, content_type=JSON).status_code == 409
    assert here.get("/api/auth/setup").json() == {"needed": False}
    assert signed_in_as("viewer").post("/api/auth/setup", body, content_type=JSON).status_code == 403


# --- users ------------------------------------------------------------------------------------------------------------


def test_users_are_made_changed_and_removed() -> None:
    admin = signed_in_as("admin")
    made = admin.post("/api/users", {"username": "bob", "password": PASSWORD, "email": "b@example.org", "roles": ["operator"]}, content_type=JSON)
    assert made.status_code == 201
    address = f"/api/users/{made.json()['id']}"
    assert login("bob").status_code == 200
    assert admin.get(address).json()["role"] == "operator"
    assert [user["username"] for user in admin.get("/api/users").json()] == sorted(User.objects.values_list("username", flat=True))
    assert admin.get("/api/users?per_page=1&page=2").json()["total"] == 2
    changed = admin.patch(address, {"roles": ["editor", "viewer"], "active": False}, content_type=JSON)
    assert (changed.status_code, changed.json()["roles"], changed.json()["active"]) == (200, ["editor", "viewer"], False)
    assert login("bob").status_code == 401
    assert not ApiToken.objects.exists()
    assert (admin.delete(address).status_code, admin.get(address).status_code) == (204, 404)


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"username": "bob", "password": "12345"}, {"/password"}),
        ({"username": "bob", "password": "bob"}, {"/password"}),
        ({"username": "b b", "password": PASSWORD}, {"/username"}),
        ({"username": "", "password": PASSWORD}, {"/username"}),
        ({"username": "bob", "roles": ["viewer", "king"]}, {"/roles/1"}),
        ({"username": "bob", "email": "x"}, {"/email"}),
        ({"username": "bob", "is_superuser": True}, {"/is_superuser"}),
    ],
)
def test_a_user_that_cannot_be(body: dict[str, Any], pointers: set[str]) -> None:
    answer = signed_in_as("admin").post("/api/users", body, content_type=JSON)
    assert (answer.status_code, {error["pointer"] for error in answer.json()["errors"]}) == (400, pointers)


def test_a_name_is_given_once(ada: User) -> None:
    assert signed_in_as("admin").post("/api/users", {"username": "ada"}, content_type=JSON).status_code == 409


@pytest.mark.parametrize("key", ["x", "0", "-1", "9" * 30, "1e3", "\u0661"])
def test_an_id_that_cannot_be_is_404(key: str) -> None:
    assert signed_in_as("admin").get(f"/api/users/{key}").status_code == 404


def test_nobody_gives_or_takes_what_they_do_not_have() -> None:
    manager = signed_in("settings.manage_users", "runs.view")
    custom = Group.objects.create(name="watchers")
    custom.permissions.add(Permission.objects.get(content_type__app_label="runs", codename="view"))
    admin, root, equal = person("admin"), User.objects.create_superuser("root"), User.objects.create_user("equal")
    assert manager.post("/api/users", {"username": "a", "roles": ["watchers"]}, content_type=JSON).status_code == 201
    for role in ("admin", "viewer"):
        assert manager.post("/api/users", {"username": "b", "roles": [role]}, content_type=JSON).status_code == 403
        assert manager.patch(f"/api/users/{equal.pk}", {"roles": [role]}, content_type=JSON).status_code == 403
    for user in (admin, root):
        every: tuple[dict[str, Any], ...] = ({"password": PASSWORD}, {"active": False}, {"roles": []}, {"email": "me@example.org"})
        for changes in every:
            assert manager.patch(f"/api/users/{user.pk}", changes, content_type=JSON).status_code == 403, changes
        assert manager.delete(f"/api/users/{user.pk}").status_code == 403
    admin.is_active = False
    admin.save()
    assert manager.patch(f"/api/users/{admin.pk}", {"active": True, "password": PASSWORD}, content_type=JSON).status_code == 403
    assert manager.patch(f"/api/users/{equal.pk}", {"password": PASSWORD}, content_type=JSON).status_code == 200
    assert signed_in_as("admin").delete(f"/api/users/{root.pk}").status_code == 403


def test_a_narrowed_token_gives_no_more_than_its_scopes() -> None:
    root = User.objects.create_superuser("root")
    mine = bearer(token_of(root, ["settings.manage_users"]))
    other = person("viewer")
    assert mine.post("/api/users", {"username": "a", "roles": ["viewer"]}, content_type=JSON).status_code == 403
    assert mine.patch(f"/api/users/{other.pk}", {"password": PASSWORD}, content_type=JSON).status_code == 403
    assert mine.patch(f"/api/users/{root.pk}", {"password": PASSWORD}, content_type=JSON).status_code == 403


def test_the_last_administrator_stays() -> None:
    only = person("admin")
    mine = Client(headers={"host": "localhost"})
    mine.force_login(only)
    User.objects.create_superuser("gone", password=PASSWORD, is_active=False)
    # These two cannot log in, the second for all its token, which ends some day and makes no other.
    User.objects.create_user("empty").groups.add(Group.objects.get(name="admin"))
    token_of(User.objects.create_superuser("without"))
    User.objects.filter(username="empty").update(password="")
    address = f"/api/users/{only.pk}"
    every: tuple[dict[str, Any], ...] = ({"active": False}, {"roles": ["viewer"]}, {"roles": []})
    for changes in every:
        answer = mine.patch(address, changes, content_type=JSON)
        assert (answer.status_code, answer.json()["code"]) == (409, "last_administrator")
    assert mine.delete(address).status_code == 409
    assert mine.get(address).json()["role"] == "admin"
    person("admin")
    assert mine.delete(address).status_code == 204


def test_where_no_administrator_could_log_in_there_is_none_to_keep() -> None:
    first, other = User.objects.create_superuser("first"), User.objects.create_superuser("other")
    assert bearer(token_of(first)).delete(f"/api/users/{other.pk}").status_code == 204


@pytest.mark.parametrize("way", ["session", "login", "token", "basic"])
def test_ones_own_password_is_changed_with_the_present_one_only(way: str) -> None:
    admin = person("admin")
    session = Client(headers={"host": "localhost"})
    session.force_login(admin)
    login_token = bearer(token_of(admin, kind=ApiToken.Kind.LOGIN))
    ways = {"session": session, "login": login_token, "token": bearer(token_of(admin)), "basic": basic(admin.username, PASSWORD)}
    address, changes = f"/api/users/{admin.pk}", {"password": "another long password"}
    answer = ways[way].patch(address, changes, content_type=JSON)
    assert (answer.status_code, answer.json()["code"]) == (403, "not_with_this_login" if way == "token" else "own_password")
    assert login(admin.username).status_code == 200
    assert ways[way].patch(f"/api/users/{person('editor').pk}", changes, content_type=JSON).status_code == 200


def test_a_programs_token_changes_nothing_of_its_own_user() -> None:
    person("admin")
    root = User.objects.create_superuser("root", "root@example.org", PASSWORD)
    mine, address = bearer(token_of(root)), f"/api/users/{root.pk}"
    every: tuple[dict[str, Any], ...] = ({"roles": ["admin"]}, {"email": "thief@example.org"}, {"active": False})
    for changes in every:
        assert mine.patch(address, changes, content_type=JSON).json()["code"] == "not_with_this_login", changes
    assert mine.delete(address).json()["code"] == "not_with_this_login"
    root.refresh_from_db()
    assert (root.email, root.is_active, root.groups.count()) == ("root@example.org", True, 0)
    assert bearer(token_of(root, kind=ApiToken.Kind.LOGIN)).patch(address, {"email": "r@example.org"}, content_type=JSON).status_code == 200


def test_a_narrowed_token_sees_no_other_token(ada: User) -> None:
    token_of(ada, kind=ApiToken.Kind.LOGIN)
    whole = token_of(ada)
    narrowed, row = token_of(ada, ["runs.view"]), ApiToken.objects.latest("created_at", "pk")
    assert [found["id"] for found in bearer(narrowed).get("/api/auth/tokens").json()] == [str(row.pk)]
    assert len(bearer(whole).get("/api/auth/tokens").json()) == 3


def test_roles_are_told() -> None:
    Group.objects.create(name="custom")
    found = signed_in_as("viewer").get("/api/roles").json()
    assert [(role["name"], role["custom"]) for role in found] == [*((name, False) for name in ROLES), ("custom", True)]
    assert {role["name"]: set(role["permissions"]) for role in found} == {**{name: set(rights) for name, rights in ROLES.items()}, "custom": set()}


def test_what_happens_is_in_the_audit_log(ada: User) -> None:
    admin = signed_in_as("admin")
    login()
    login(password="wrong")
    login("a mistyped password")
    made = admin.post("/api/users", {"username": "bob", "password": PASSWORD, "roles": ["viewer"]}, content_type=JSON).json()
    admin.patch(f"/api/users/{made['id']}", {"roles": ["editor"], "password": PASSWORD + "!"}, content_type=JSON)
    key = admin.post("/api/auth/tokens", {"name": "t"}, content_type=JSON).json()["id"]
    admin.delete(f"/api/auth/tokens/{key}")
    admin.delete(f"/api/users/{made['id']}")
    entries = list(AuditEntry.objects.order_by("pk"))
    actions = [entry.action for entry in entries]
    assert actions == [
        *("auth.login", "auth.login_failed", "auth.login_failed", "user.created", "user.updated", "token.created", "token.revoked", "user.deleted"),
    ]
    assert PASSWORD not in str([vars(entry) for entry in entries])
    assert "mistyped" not in str([vars(entry) for entry in entries])
