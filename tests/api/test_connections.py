"""Connections over the API: secrets go in and never come out, and go to no other server than they were given for."""

import json
from typing import Any

import pytest
from django.test import Client

from pipelines import connections, definitions
from pipelines.models import Connection
from tests.factories import sql_node

pytestmark = pytest.mark.django_db

POSTGRES = {"conn_id": "warehouse", "type": "postgres", "host": "db.example.org", "schema": "sales", "login": "ada"}


def send(api: Client, method: str, path: str, body: Any = None, **headers: str) -> Any:
    text = b"" if body is None else json.dumps(body).encode()
    return api.generic(method, f"/api/connections{path}", text, content_type="application/json", headers=headers)


def make(api: Client, **fields: Any) -> dict[str, Any]:
    response = send(api, "POST", "", {**POSTGRES, **fields})
    assert response.status_code == 201, response.content
    found: dict[str, Any] = response.json()
    return found


def secrets_of(conn_id: str = "warehouse") -> dict[str, Any]:
    return connections.opened(Connection.objects.get(conn_id=conn_id)).as_json()


def errors(response: Any) -> dict[str, str]:
    return {error["pointer"]: error["detail"] for error in response.json()["errors"]}


def test_one_is_made_shown_listed_changed_and_removed(api: Client) -> None:
    response = send(api, "POST", "", {**POSTGRES, "password": "hush-hush", "extra": {"sslmode": "require", "x_secret": "also-hush"}})
    assert (response.status_code, response["Location"], response["ETag"]) == (201, "/api/connections/warehouse", '"1"')
    made = response.json()
    assert {key: made[key] for key in ("conn_id", "type", "host", "port", "schema", "login", "description")} == {
        **POSTGRES,
        "port": None,
        "description": "",
    }
    assert (made["has_password"], made["password_ref"], made["extra"], made["secret_extra"]) == (True, None, {"sslmode": "require"}, ["x_secret"])
    assert secrets_of() == {"password": "hush-hush", "extra": {"x_secret": "also-hush"}}

    assert send(api, "GET", "/warehouse").json() == made
    assert send(api, "GET", "").json() == [made]
    changed = send(api, "PATCH", "/warehouse", {"description": "The big one", "extra": {"application_name": "b"}})
    assert (changed.status_code, changed["ETag"]) == (200, '"2"')
    assert (changed.json()["description"], changed.json()["extra"]) == ("The big one", {"sslmode": "require", "application_name": "b"})
    assert secrets_of() == {"password": "hush-hush", "extra": {"x_secret": "also-hush"}}

    assert send(api, "DELETE", "/warehouse").status_code == 204
    assert send(api, "GET", "/warehouse").status_code == send(api, "DELETE", "/warehouse").status_code == 404


def test_what_was_read_can_be_written_back(api: Client) -> None:
    made = make(api, password="hush-hush", extra={"sslmode": "require", "token": "t0ken"})
    replaced = send(api, "PUT", "/warehouse", made)
    assert replaced.status_code == 200
    server = {"version", "updated_at"}
    assert {key: value for key, value in replaced.json().items() if key not in server} == {key: made[key] for key in made if key not in server}
    assert secrets_of() == {"password": "hush-hush", "extra": {"token": "t0ken"}}


def test_secrets_in_the_answers_and_rows_are_nowhere_in_the_open(api: Client) -> None:
    canary = "canary-5f1c"
    make(api, password=canary, extra={"private_key": canary})
    for response in (send(api, "GET", ""), send(api, "GET", "/warehouse"), send(api, "PATCH", "/warehouse", {"password": canary + "2"})):
        assert canary not in response.content.decode()
    assert canary not in str(Connection.objects.values_list().get())
    wrong = send(api, "POST", "", {**POSTGRES, "conn_id": "b", "password": canary * 5000})
    assert (wrong.status_code, canary in wrong.content.decode()) == (400, False)


def test_a_password_stays_goes_and_is_replaced(api: Client) -> None:
    make(api, password="one-and-only", extra={"token": "t0ken"})
    for body in ({}, {"password": ""}, {"description": "x"}, {"extra": {"token": ""}}, {"extra": {"application_name": "b"}}):
        assert send(api, "PATCH", "/warehouse", body).status_code == 200
        assert secrets_of() == {"password": "one-and-only", "extra": {"token": "t0ken"}}
    send(api, "PATCH", "/warehouse", {"password": "another-one"})
    assert secrets_of()["password"] == "another-one"
    send(api, "PATCH", "/warehouse", {"extra": {"token": None, "key": "k"}})
    assert secrets_of()["extra"] == {"key": "k"}
    assert send(api, "PATCH", "/warehouse", {"password": None}).json()["has_password"] is False
    assert send(api, "PATCH", "/warehouse", {"extra": None}).json()["secret_extra"] == []
    assert Connection.objects.get().secrets == ""


def test_replacing_keeps_secrets_and_no_public_field(api: Client) -> None:
    make(api, password="one-and-only", description="x", extra={"application_name": "b"})
    replaced = send(api, "PUT", "/warehouse", {key: POSTGRES[key] for key in ("type", "host", "login")}).json()
    assert (replaced["description"], replaced["schema"], replaced["extra"], replaced["has_password"]) == ("", "", {}, True)


def test_where_a_password_is_kept_is_shown(api: Client) -> None:
    made = make(api, password="env://BROKOLI_CREDENTIAL_PG")
    assert (made["password_ref"], made["has_password"]) == ("env://BROKOLI_CREDENTIAL_PG", True)
    changed = send(api, "PATCH", "/warehouse", {"password_ref": "file://pg"}).json()
    assert changed["password_ref"] == "file://pg"
    assert errors(send(api, "PATCH", "/warehouse", {"password_ref": "hunter2"})).keys() == {"/password_ref"}
    refused = send(api, "PATCH", "/warehouse", {"password": "env://BROKOLI_SECRET_KEY"})
    assert "BROKOLI_CREDENTIAL_" in errors(refused)["/password"]


@pytest.mark.parametrize("password", ["hush-hush", "env://BROKOLI_CREDENTIAL_PG"])
@pytest.mark.parametrize(
    "change",
    [
        {"host": "evil.example.org"},
        {"port": 5433},
        {"login": "eve"},
        {"type": "mysql"},
        {"extra": {"sslmode": "disable"}},
        {"extra": {"sslrootcert": "x"}},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_stored_secret_does_not_follow_to_another_server(api: Client, method: str, change: dict[str, Any], password: str) -> None:
    base = {"extra": {"sslmode": "require"}}
    made = make(api, password=password, **base)
    body = change if method == "PATCH" else {**POSTGRES, **base, **change}
    refused = send(api, method, "/warehouse", body)
    assert (refused.status_code, refused.json()["code"]) == (422, "secrets_needed")
    assert "may be another server" in errors(refused)["/password"]
    assert send(api, "GET", "/warehouse").json() == made
    assert send(api, method, "/warehouse", {**body, "password": "given-again"}).status_code == 200
    assert secrets_of()["password"] == "given-again"


def test_secret_options_do_not_follow_either_and_may_be_taken_away(api: Client) -> None:
    make(api, type="http", password="hush-hush", extra={"token": "t0ken"}, schema="https")
    refused = send(api, "PATCH", "/warehouse", {"schema": "http", "password": "again"})
    assert (refused.status_code, list(errors(refused))) == (422, ["/extra/token"])
    assert send(api, "PATCH", "/warehouse", {"schema": "http", "password": None, "extra": {"token": None}}).status_code == 200


def test_the_default_port_is_the_same_server(api: Client) -> None:
    make(api, password="hush-hush")
    assert send(api, "PATCH", "/warehouse", {"port": 5432, "description": "x"}).status_code == 200


def test_without_stored_secrets_it_may_lead_anywhere(api: Client) -> None:
    make(api)
    assert send(api, "PATCH", "/warehouse", {"host": "other.example.org", "type": "mysql"}).json()["type"] == "mysql"


def test_options_may_be_the_text_of_an_object(api: Client) -> None:
    made = make(api, extra='{"sslmode": "require", "token": "t0ken"}')
    assert (made["extra"], made["secret_extra"]) == ({"sslmode": "require"}, ["token"])


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"type": "oracle"}, "/type"),
        ({"type": None}, "/type"),
        ({"host": ""}, "/host"),
        ({"host": "postgres://ada:hunter2@db/x"}, "/host"),
        ({"host": "/var/run/postgresql"}, "/host"),
        ({"host": "a,b"}, "/host"),
        ({"host": "a b"}, "/host"),
        ({"host": 5}, "/host"),
        ({"port": 0}, "/port"),
        ({"port": 65536}, "/port"),
        ({"port": "5432"}, "/port"),
        ({"port": True}, "/port"),
        ({"login": "a\nb"}, "/login"),
        ({"login": "x" * 201}, "/login"),
        ({"password": 5}, "/password"),
        ({"password": "x" * 20_001}, "/password"),
        ({"extra": []}, "/extra"),
        ({"extra": "[1]"}, "/extra"),
        ({"extra": '{"a": NaN}'}, "/extra"),
        ({"extra": '{"a": "\\u0000"}'}, "/extra"),
        ({"extra": {str(number): 1 for number in range(51)}}, "/extra"),
        ({"extra": {"": 1}}, "/extra"),
        ({"extra": {"a": "x" * 64_000}}, "/extra"),
        ({"extra": {"sslmode": "maybe"}}, "/extra/sslmode"),
        ({"extra": {"connect_timeout": "soon"}}, "/extra/connect_timeout"),
        ({"type": "http", "schema": "", "host": "https://ada:hunter2@api.example.org"}, "/host"),
        ({"type": "http", "schema": "", "host": "ftp://api.example.org"}, "/host"),
        ({"type": "http", "schema": "", "host": "api.example.org/?key=1"}, "/host"),
        ({"type": "http", "schema": "", "host": "http://[::1"}, "/host"),
        ({"type": "http", "schema": "", "host": "api.example.org\\@10.0.0.1"}, "/host"),
        ({"type": "http", "schema": "gopher"}, "/schema"),
        ({"type": "http", "schema": "", "extra": {"headers": "x"}}, "/extra/headers"),
        ({"type": "http", "schema": "", "extra": {"headers": {"a": 1}}}, "/extra/headers"),
        ({"type": "s3", "schema": "a/b"}, "/schema"),
        ({"type": "sftp", "extra": {"host_key": "yes"}}, "/extra/host_key"),
        ({"type": "sqlite", "host": "sqlite:///x"}, "/host"),
        ({"type": "generic", "host": "oracle://ada:hunter2@db/x"}, "/host"),
        ({"type": "generic", "host": "mssql+pyodbc:///?odbc_connect=SERVER%3Dx%3BPWD%3Dhunter2"}, "/host"),
        ({"type": "generic", "host": "db.example.org"}, "/host"),
        ({"conn_id": ""}, "/conn_id"),
        ({"conn_id": "test"}, "/conn_id"),
        ({"conn_id": "a/b"}, "/conn_id"),
        ({"conn_id": ".."}, "/conn_id"),
        ({"conn_id": "ä"}, "/conn_id"),
        ({"conn_id": "a\n"}, "/conn_id"),
        ({"conn_id": "x" * 101}, "/conn_id"),
        ({"hots": "x"}, "/hots"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_cannot_be_is_named(api: Client, fields: dict[str, Any], pointer: str) -> None:
    response = send(api, "POST", "", {**POSTGRES, **fields})
    assert (response.status_code, list(errors(response))) == (400, [pointer]), response.content
    assert "hunter2" not in response.content.decode()
    assert not Connection.objects.exists()


@pytest.mark.parametrize("text", ['{"conn_id": "a\\u0000"}', '{"conn_id": "\\ud800"}', '{"description": "\\u0000"}', '{"port": ' + "9" * 5000 + "}"])
def test_what_no_database_takes_is_refused(api: Client, text: str) -> None:
    assert api.generic("POST", "/api/connections", text.encode(), content_type="application/json").status_code == 400
    make(api)
    assert api.generic("PATCH", "/api/connections/warehouse", text.encode(), content_type="application/json").status_code == 400


@pytest.mark.parametrize("conn_id", ["missing", "%00", "x" * 3000, "%ff", "a%2Fb", "%F0%9F%92%A9"])
def test_a_name_of_nothing_is_not_found(api: Client, conn_id: str) -> None:
    for method, path in (("GET", ""), ("PUT", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/test"), ("GET", "/used-by")):
        body = POSTGRES | {"conn_id": conn_id} if method == "PUT" else None
        assert send(api, method, f"/{conn_id}{path}", body).status_code in (404, 400 if method == "PUT" else 404)


def test_a_name_is_taken_once_and_kept(api: Client) -> None:
    make(api)
    assert send(api, "POST", "", POSTGRES).status_code == 409
    assert errors(send(api, "PATCH", "/warehouse", {"conn_id": "other"})).keys() == {"/conn_id"}
    assert send(api, "PATCH", "/warehouse", {"conn_id": "warehouse"}).status_code == 200


def test_a_change_that_saw_another_version_is_refused(api: Client) -> None:
    make(api)
    assert send(api, "PATCH", "/warehouse", {"description": "a"}, **{"If-Match": '"1"'}).status_code == 200
    for method in ("PATCH", "PUT", "DELETE"):
        body = None if method == "DELETE" else {**POSTGRES, "description": "b"}
        assert send(api, method, "/warehouse", body, **{"If-Match": '"1"'}).status_code == 412
    assert send(api, "PATCH", "/warehouse", {}, **{"If-Match": "1"}).status_code == 400
    assert send(api, "DELETE", "/warehouse", **{"If-Match": '"2"'}).status_code == 204


def test_the_listing_is_filtered_and_bounded(api: Client) -> None:
    for name, kind in (("a_pg", "postgres"), ("b_my", "mysql"), ("c_pg", "postgres")):
        make(api, conn_id=name, type=kind)

    def names(query: str) -> list[str]:
        return [found["conn_id"] for found in send(api, "GET", query).json()]

    assert names("") == ["a_pg", "b_my", "c_pg"]
    assert names("?type=postgres") == names("?q=PG") == ["a_pg", "c_pg"]
    assert names("?after=a_pg&limit=1") == ["b_my"]
    for query in ("?type=oracle", "?nope=1", "?limit=0", "?limit=1001", "?q=%00", "?q=a&q=b"):
        assert send(api, "GET", query).status_code == 400
    assert names("?q=%25") == []


def test_the_types_say_what_they_need(api: Client) -> None:
    found = {kind["type"]: kind for kind in api.get("/api/connection-types").json()}
    assert set(found) == {"postgres", "mysql", "sqlite", "http", "s3", "sftp", "generic"}
    assert (found["postgres"]["default_port"], found["postgres"]["label"]) == (5432, "PostgreSQL")
    fields = {field["name"]: field for field in found["sftp"]["fields"]}
    assert (fields["private_key"]["secret"], fields["private_key"]["in"], fields["host"]["required"]) == (True, "extra", True)
    assert found["http"]["schema"]["properties"]["extra"]["properties"]["token"]["writeOnly"] is True
    assert found["http"]["schema"]["required"] == ["conn_id", "type", "host"]


def test_one_in_use_is_not_removed_unasked(api: Client) -> None:
    make(api)
    nodes = [sql_node("a", "SELECT 1 AS x", conn_id="warehouse")]
    first = definitions.create({"name": "First", "nodes": nodes}).pipeline
    definitions.create({"name": "Second", "nodes": nodes})
    assert [user["name"] for user in send(api, "GET", "/warehouse/used-by").json()] == ["First", "Second"]
    assert send(api, "GET", "/warehouse/used-by").json()[0] == {
        "id": str(first.id),
        "pipeline_id": "first",
        "name": "First",
        "enabled": True,
    }
    refused = send(api, "DELETE", "/warehouse")
    assert (refused.status_code, "'First', 'Second'" in refused.json()["detail"]) == (409, True)
    definitions.delete(first.id)
    assert [user["name"] for user in send(api, "GET", "/warehouse/used-by").json()] == ["Second"]
    assert send(api, "DELETE", "/warehouse?force=maybe").status_code == 400
    assert send(api, "DELETE", "/warehouse?force=true").status_code == 204


def test_secrets_that_no_key_opens_are_told_and_can_be_replaced(api: Client, settings: Any) -> None:
    from cryptography.fernet import Fernet

    from brokoli_site.common.secrets import Keyring

    make(api, password="hush-hush", extra={"token": "t0ken"})
    old, settings.KEYRING = settings.KEYRING, Keyring((Fernet.generate_key(),))
    shown = send(api, "GET", "").json()[0]
    assert (shown["has_password"], old.ids[0] in shown["problem"]) == (True, True)
    assert send(api, "PATCH", "/warehouse", {"description": "x"}).status_code == 200
    assert send(api, "PATCH", "/warehouse", {"host": "evil.example.org"}).status_code == 422
    assert send(api, "PATCH", "/warehouse", {"extra": {"token": "x"}}).status_code == 500
    assert send(api, "PATCH", "/warehouse", {"password": "new-one"}).json()["problem"] is None
    assert secrets_of() == {"password": "new-one", "extra": {}}
