"""`source_api` against real servers: pages, formats, credentials."""

import gzip
import json
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from brokoli_site.common.errors import NodeError, TransientNodeError
from pipelines.vault import Vault
from tests.contracts.case import Given
from tests.contracts.workshop import Outcome, Workshop
from tests.web.connections import http_vault
from tests.web_api import Params, api, body, cursor, failing_first, gzipped, numbered, offset, record, send

pytestmark = pytest.mark.any_database
QUICK = {"page_retry_delay": 10}


def run(workshop: Workshop, config: Mapping[str, Any], vault: Vault | None = None, params: Mapping[str, Any] | None = None) -> Outcome:
    return workshop.run("source_api", Given({"execution": QUICK, **config}, vault=vault or Vault()), params)


def ids(outcome: Outcome) -> list[int]:
    return [row[0] for row in outcome.rows]


# --- pages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 4])
def test_offset_pages_in_their_order(workshop: Workshop, concurrency: int) -> None:
    with api({"/x": offset(95)}) as server:
        pagination = {"strategy": "offset", "page_size": 10}
        config = {"url": server.url("/x?kind=a"), "records": "results", "pagination": pagination, "execution": {"max_concurrency": concurrency}}
        outcome = run(workshop, config)
        assert ids(outcome) == list(range(95))
        assert [column.type for column in outcome.schema] == ["BIGINT", "VARCHAR", "DOUBLE"]
        asked = [request.path for request in server.received]
        assert all("kind=a" in path for path in asked)
        assert 10 <= len(asked) <= 10 + concurrency - 1
        assert "95 records" in outcome.log.text
        assert "in 10 pages" in outcome.log.text


@pytest.mark.parametrize("concurrency", [1, 3])
def test_max_records_is_exact(workshop: Workshop, concurrency: int) -> None:
    with api({"/x": offset(1000)}) as server:
        pagination = {"strategy": "offset", "page_size": 10, "max_records": 25, "total_path": "total"}
        outcome = run(
            workshop, {"url": server.url("/x"), "records": "results", "pagination": pagination, "execution": {"max_concurrency": concurrency}}
        )
        assert ids(outcome) == list(range(25))
        assert len(server.received) == 3


def test_an_end_flag_ends(workshop: Workshop) -> None:
    with api({"/x": offset(30, flag=True)}) as server:
        pagination = {"strategy": "offset", "page_size": 10, "end_flag": "end", "offset_param": "offset", "limit_param": "limit"}
        assert ids(run(workshop, {"url": server.url("/x"), "records": "results", "pagination": pagination})) == list(range(30))
        assert len(server.received) == 3


def test_a_server_that_gives_fewer_than_asked_loses_no_records_silently(workshop: Workshop) -> None:
    with api({"/x": offset(30, flag=True, cap=4)}) as server:
        pagination = {"strategy": "offset", "page_size": 10, "end_flag": "end"}
        with pytest.raises(NodeError, match="Page 1 has 4 records where 10 were asked for"):
            run(workshop, {"url": server.url("/x"), "records": "results", "pagination": pagination})


@pytest.mark.parametrize("total", ["meta.pages", ""])
@pytest.mark.parametrize("concurrency", [1, 4])
def test_numbered_pages(workshop: Workshop, total: str, concurrency: int) -> None:
    with api({"/x": numbered(7, 5, first=0)}) as server:
        pagination = {"strategy": "numbered", "page_param": "page", "start": 0, "total_pages_path": total}
        config = {"url": server.url("/x"), "records": "data.items", "pagination": pagination, "execution": {"max_concurrency": concurrency}}
        assert ids(run(workshop, config)) == list(range(35))
        assert len(server.received) == 7 if total else len(server.received) >= 8


def test_cursor_pages(workshop: Workshop) -> None:
    with api({"/x": cursor(5, 4)}) as server:
        pagination = {"strategy": "cursor", "cursor_path": "next.after", "cursor_param": "after"}
        assert ids(run(workshop, {"url": server.url("/x"), "records": "items", "pagination": pagination})) == list(range(20))
        assert [request.path for request in server.received] == ["/x", *(f"/x?after={page}" for page in range(1, 5))]


@pytest.mark.parametrize("kind", ["next_link", "link_header"])
def test_links_to_the_next_page(workshop: Workshop, kind: str) -> None:
    def page(handler: BaseHTTPRequestHandler, params: Params) -> None:
        number = int(params.get("p", "0"))
        link = f"/x?p={number + 1}" if number < 3 else None
        found = {"rows": [record(number)], "paging": {"next": link}}
        send(handler, found, Link=f'</first>; rel="first", <{link}>; rel="next"' if link and kind == "link_header" else "")

    with api({"/x": page}) as server:
        pagination = {"strategy": kind, **({"next_path": "paging.next"} if kind == "next_link" else {"rel": "next"})}
        assert ids(run(workshop, {"url": server.url("/x"), "records": "rows", "pagination": pagination})) == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["cursor", "next_link"])
def test_pages_that_go_round_end_with_a_sentence(workshop: Workshop, kind: str) -> None:
    with api({"/x": body(b'{"rows": [{"id": 1}], "next": "/x?again=1"}')}) as server:
        pagination = {"strategy": kind, "cursor_path": "next", "cursor_param": "c", "next_path": "next"}
        with pytest.raises(NodeError, match="round for ever"):
            run(workshop, {"url": server.url("/x"), "records": "rows", "pagination": pagination})
        assert len(server.received) == 2


def test_pages_without_end_are_bounded(workshop: Workshop) -> None:
    with api({"/x": offset(10**9)}) as server:
        pagination = {"strategy": "offset", "page_size": 1, "max_pages": 5}
        with pytest.raises(NodeError, match="more than 5 pages"):
            run(workshop, {"url": server.url("/x"), "records": "results", "pagination": pagination})
        assert len(server.received) == 6
    with api({"/x": offset(5)}) as server:
        pagination = {"strategy": "offset", "page_size": 1, "max_pages": 5}
        assert len(run(workshop, {"url": server.url("/x"), "records": "results", "pagination": pagination}).rows) == 5


def test_a_page_that_is_asked_for_again_comes_once_and_in_its_place(workshop: Workshop) -> None:
    with api({"/x": failing_first(2, offset(40, flag=True))}) as server:
        pagination = {"strategy": "offset", "page_size": 10, "end_flag": "end"}
        outcome = run(
            workshop, {"url": server.url("/x"), "records": "results", "pagination": pagination, "execution": {**QUICK, "max_concurrency": 3}}
        )
        assert ids(outcome) == list(range(40))
        assert outcome.log.text.count("was answered with 500") >= 8


def test_the_pace_is_kept(workshop: Workshop) -> None:
    with api({"/x": offset(100)}) as server:
        pagination = {"strategy": "offset", "page_size": 20, "total_path": "total"}
        execution = {"max_concurrency": 5, "requests_per_second": 20}
        start = time.monotonic()
        run(workshop, {"url": server.url("/x"), "records": "results", "pagination": pagination, "execution": execution})
        assert time.monotonic() - start >= 4 / 20


def test_pages_keep_their_connection(workshop: Workshop) -> None:
    with api({"/x": offset(100)}) as server:
        run(workshop, {"url": server.url("/x"), "records": "results", "pagination": {"strategy": "offset", "page_size": 10}})
        assert len(server.received) == 11
        assert len({request.client for request in server.received}) == 1


def test_csv_and_line_pages(workshop: Workshop) -> None:
    def rows(handler: BaseHTTPRequestHandler, params: Params) -> None:
        page = int(params["page"])
        send(handler, b"id,name\r\n" + (b'%d,"a\nb"\r\n%d,x' % (page, page + 10) if page <= 3 else b""), "text/csv; charset=utf-8")

    def lines(handler: BaseHTTPRequestHandler, params: Params) -> None:
        page = int(params["page"])
        send(handler, b'{"id": %d}\n\n{"id": 0}' % page if page <= 3 else b"", "application/x-ndjson")

    with api({"/rows": rows, "/lines": lines}) as server:
        pagination = {"strategy": "numbered", "page_param": "page"}
        outcome = run(workshop, {"url": server.url("/rows"), "pagination": pagination})
        assert outcome.rows == [(1, "a\nb"), (11, "x"), (2, "a\nb"), (12, "x"), (3, "a\nb"), (13, "x")]
        assert ids(run(workshop, {"url": server.url("/lines"), "pagination": pagination})) == [1, 0, 2, 0, 3, 0]


def test_an_array_that_later_pages_leave_out_is_empty_and_on_the_first_page_it_is_a_mistake(workshop: Workshop) -> None:
    def page(handler: BaseHTTPRequestHandler, params: Params) -> None:
        send(handler, {"items": [record(1)]} if params["page"] == "1" else {"kind": "list"})

    with api({"/x": page}) as server:
        pagination = {"strategy": "numbered", "page_param": "page"}
        assert ids(run(workshop, {"url": server.url("/x"), "records": "items", "pagination": pagination})) == [1]
        with pytest.raises(NodeError, match=r"nothing at 'rows' in page 1\. It has: 'items'"):
            run(workshop, {"url": server.url("/x"), "records": "rows", "pagination": pagination})
        declared = {"url": server.url("/x?page=2"), "records": "items", "columns": {"id": "BIGINT"}}
        assert run(workshop, declared).rows == []


# --- formats ------------------------------------------------------------------------------------------------------

ROWS = [(1, "Zoë", 1.5), (2, None, None)]
JSON = json.dumps([{"id": 1, "name": "Zoë", "x": 1.5}, {"id": 2, "name": None, "x": None}]).encode()
LINES = b'{"id": 1, "name": "Zo\xc3\xab", "x": 1.5}\n{"id": 2}\n'
CSV = "id,name,x\n1,Zoë,1.5\n2,,\n"


@pytest.mark.parametrize(
    ("path", "route", "config"),
    [
        ("/x", body(JSON), {}),
        ("/x", gzipped(JSON), {}),
        ("/x", body(gzip.compress(JSON), "application/gzip"), {"format": "json"}),
        ("/x.json.gz", body(gzip.compress(JSON[:40]) + gzip.compress(JSON[40:]), "application/octet-stream"), {}),
        ("/x", body(b"\xef\xbb\xbf" + JSON, "application/vnd.api+json"), {}),
        ("/x", body(JSON.decode().encode("utf-16"), "application/json; charset=utf-16"), {}),
        ("/x", body(b'{"a": {"b": ' + JSON + b"}}"), {"records": "a.b"}),
        ("/x", body(LINES, "application/x-ndjson"), {}),
        ("/x", body(LINES, "text/plain"), {"format": "jsonl"}),
        ("/x", body(CSV.encode(), "text/csv"), {}),
        ("/x", body(CSV.encode("latin-1"), "text/csv; charset=ISO-8859-1"), {}),
        ("/x", body(CSV.encode("cp1252"), "text/csv"), {"encoding": "cp1252"}),
        ("/x.csv", body(CSV.replace(",", ";").encode(), "application/octet-stream"), {}),
        ("/x", body(CSV.replace(",", "\t").encode(), "text/tab-separated-values"), {}),
    ],
)
def test_every_format(workshop: Workshop, path: str, route: Any, config: dict[str, Any]) -> None:
    with api({path: route}) as server:
        outcome = run(workshop, {"url": server.url(path), **config})
        assert outcome.rows == ROWS
        assert outcome.columns == ["id", "name", "x"]


def test_numbers_are_exact(workshop: Workshop) -> None:
    text = b'{"rows": [{"i": 9223372036854775807, "h": 18446744073709551615, "d": 0.1, "e": 1e3, "n": {"a": [1, 2.5]}}]}'
    with api({"/x": body(text)}) as server:
        outcome = run(workshop, {"url": server.url("/x"), "records": "rows"})
        assert [str(value) for value in outcome.rows[0]] == [
            "9223372036854775807",
            "18446744073709551615",
            "0.1",
            "1000.0",
            "{'a': [1.0, 2.5]}",
        ]


def test_declared_columns(workshop: Workshop) -> None:
    with api({"/x": body(JSON), "/none": body(b"[]")}) as server:
        columns = [{"name": "x", "type": "DECIMAL(4, 2)"}, {"name": "id", "type": "VARCHAR"}, {"name": "more", "type": "DATE"}]
        closed = run(workshop, {"url": server.url("/x"), "columns": columns})
        assert [column.type for column in closed.schema] == ["DECIMAL(4,2)", "VARCHAR", "DATE"]
        sdk = {
            "contract": "brokoli.dataset-schema/v1",
            "columns": [{"name": "id", "type": {"kind": "string"}}, {"name": "day", "type": {"kind": "date"}}],
            "additional_columns": "open",
        }
        opened = run(workshop, {"url": server.url("/x"), "schema": sdk})
        assert [(column.name, column.type) for column in opened.schema] == [("id", "VARCHAR"), ("day", "DATE"), ("name", "VARCHAR"), ("x", "DOUBLE")]
        nothing = run(workshop, {"url": server.url("/none"), "columns": columns})
        assert (nothing.rows, nothing.columns) == ([], ["x", "id", "more"])
        assert "holds no records" in run(workshop, {"url": server.url("/none")}).log.text


def test_a_single_value_and_a_file(workshop: Workshop) -> None:
    with api(
        {"/x": body(b'{"rates": [{"usd": 1.25}], "at": "2024-01-15"}'), "/t": body(b"42\n", "text/plain"), "/f": body(b"\0\1PDF", "application/pdf")}
    ) as server:
        assert run(workshop, {"url": server.url("/x"), "response": "scalar", "value_path": "rates.0.usd"}).rows == [(1.25,)]
        assert run(workshop, {"url": server.url("/t"), "response": "scalar"}).rows == [(42,)]
        with pytest.raises(NodeError, match="'eur' is missing"):
            run(workshop, {"url": server.url("/x"), "response": "scalar", "value_path": "rates.0.eur"})
        artifact = run(workshop, {"url": server.url("/f"), "response": "artifact"})
        assert artifact.columns == ["content", "content_type", "size"]
        assert artifact.rows == [(b"\0\1PDF", "application/pdf", 5)]


def test_a_post_asks_once_unless_it_may_be_repeated(workshop: Workshop) -> None:
    with api({"/q": failing_first(1, body(JSON))}) as server:
        config = {"url": server.url("/q"), "method": "post", "body": {"query": "{ all }"}}
        with pytest.raises(TransientNodeError, match="500 Internal Server Error"):
            run(workshop, config)
        assert len(server.received) == 1
        assert server.received[0].json == {"query": "{ all }"}
        assert server.received[0].headers["content-type"] == "application/json"
    with api({"/q": failing_first(1, body(JSON))}) as server:
        assert run(workshop, {**config, "url": server.url("/q"), "execution": {**QUICK, "repeatable": True}}).rows == ROWS


# --- credentials --------------------------------------------------------------------------------------------------


def test_a_connection_gives_the_host_and_the_credentials(workshop: Workshop) -> None:
    with api({"/v1/x": body(JSON), "/v1": body(JSON)}) as server:
        vault = http_vault(server.url("/v1"), login="me", password="secret-word", headers={"X-Tenant": "t1"})
        for url in ("/x", "x", server.url("/v1/x"), ""):
            assert run(workshop, {"url": url, "conn_id": "api", "headers": {"Authorization": "mine", "X-Own": "1"}}, vault).rows == ROWS
        for request in server.received:
            assert request.headers["authorization"] == "Basic bWU6c2VjcmV0LXdvcmQ="
            assert (request.headers["x-tenant"], request.headers["x-own"]) == ("t1", "1")
        token = http_vault(server.url("/v1"), token="t0ken")
        run(workshop, {"url": "/x", "conn_id": "api"}, token)
        assert server.received[-1].headers["authorization"] == "Bearer t0ken"
        run(workshop, {"url": server.url("/v1/x"), "auth_user": "a", "auth_password": "b"})
        assert server.received[-1].headers["authorization"] == "Basic YTpi"


@pytest.mark.parametrize(
    "path", ["@evil.example/x", "//evil.example/x", "\\\\evil.example/x", "/../x", ".evil.example/", ":80/x", "ftp://evil.example"]
)
def test_no_path_leads_from_a_connection_to_another_host(workshop: Workshop, path: str) -> None:
    with api({}) as server:
        vault = http_vault(server.url("/v1"), token="canary-token")
        with pytest.raises(NodeError) as caught:
            run(workshop, {"url": path, "conn_id": "api"}, vault)
        assert "canary" not in caught.value.message
        assert "evil.example is" not in caught.value.message  # nobody asked for its address
        assert "was answered with 404" in caught.value.message or "is not usable" in caught.value.message or "not what HTTP" in caught.value.message


def test_credentials_go_to_no_other_origin(workshop: Workshop) -> None:
    with api({"/x": body(JSON)}) as other:
        with api({"/x": body(b'{"rows": [{"id": 1}], "next": "%s"}' % other.url("/x").encode())}) as server:
            vault = http_vault(server.url(""), token="canary-token")
            with pytest.raises(NodeError, match="its credentials go nowhere else"):
                run(workshop, {"url": other.url("/x"), "conn_id": "api"}, vault)
            pagination = {"strategy": "next_link", "next_path": "next"}
            with pytest.raises(NodeError, match="are not sent there"):
                run(workshop, {"url": "/x", "conn_id": "api", "records": "rows", "pagination": pagination}, vault)
            assert not other.received
        # Without credentials there is nothing to keep back.
        with api({"/x": body(b'{"rows": [{"id": 1}], "next": "%s"}' % other.url("/y").encode())}) as server:
            with pytest.raises(NodeError, match=r"Page 2 .* 404"):
                run(workshop, {"url": server.url("/x"), "records": "rows", "pagination": pagination})
            assert len(other.received) == 1


def test_who_runs_a_pipeline_does_not_choose_where_its_credentials_go(workshop: Workshop) -> None:
    with api({"/x": body(JSON)}) as server:
        host = {"host": f"127.0.0.1:{server.port}"}
        assert run(workshop, {"url": "http://${param.host}/x"}, params=host).rows == ROWS
        for url in ("http://${param.host}/x", "${param.host}", "http://{{ params.host }}/x"):
            with pytest.raises(NodeError, match="a param cannot be a part of the host"):
                run(workshop, {"url": url, "headers": {"X-Api-Key": "k"}}, params={"host": server.url("/x")})


def test_errors_tell_what_the_server_said_and_no_secret(workshop: Workshop) -> None:
    def echo(handler: BaseHTTPRequestHandler, params: Params) -> None:
        told = {"path": handler.path, "authorization": handler.headers["Authorization"], "key": handler.headers["X-Api-Key"], "long": "x" * 5000}
        send(handler, told, status=403)

    with api({"/x": echo}) as server:
        vault = http_vault(server.url(""), login="me", password="canary-password", headers={"X-Api-Key": "canary-header"})
        config = {"url": "/x?token=canary-query&day=1", "conn_id": "api", "params": {"api_key": "canary-param"}}
        with pytest.raises(NodeError) as caught:
            run(workshop, config, vault)
        message = caught.value.message
        assert "canary" not in message
        assert "bWU6" not in message
        assert f"GET {server.url('/x')}?token=…&day=…&api_key=… was answered with 403 Forbidden. The server says:" in message
        assert len(message) < 700


# --- dry runs -----------------------------------------------------------------------------------------------------


def test_a_dry_run_asks_for_the_first_page_alone(workshop: Workshop) -> None:
    with api({"/x": offset(1000)}) as server:
        config = {"url": server.url("/x"), "records": "results", "pagination": {"strategy": "offset", "page_size": 50}}
        answer = workshop.dry_run("source_api", Given(config))
        assert answer["status"] == "success", answer
        assert (len(answer["rows"]), answer["rows"][0]) == (10, {"id": 0, "name": "name 0", "amount": 0.0})
        assert len(server.received) == 1
        refused = workshop.dry_run("source_api", Given({**config, "method": "POST"}))
        assert (refused["status"], len(server.received)) == ("skipped", 1)


def test_threads_of_pages_end_with_the_node(workshop: Workshop) -> None:
    with api({"/x": offset(100)}) as server:
        pagination = {"strategy": "offset", "page_size": 10}
        run(workshop, {"url": server.url("/x"), "records": "results", "pagination": pagination, "execution": {"max_concurrency": 8}})
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("page")]
