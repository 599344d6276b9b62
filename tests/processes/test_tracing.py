"""Traces of real processes, to a receiver that speaks OTLP over HTTP."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from runs.models import Run
from tests.conftest import StartServer
from tests.factories import make_pipeline, sql_node
from tests.patience import within
from tests.programs import ROOT, environment, wait_for

pytestmark = pytest.mark.slow

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SECRET = "hunter2-of-the-query"


class Receiver:
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                receiver.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def spans(self) -> list[tuple[str, Span]]:
        """With the name of the service of each."""
        found = []
        for body in list(self.bodies):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                (service,) = [pair.value.string_value for pair in resource.resource.attributes if pair.key == "service.name"]
                found += [(service, span) for scope in resource.scope_spans for span in scope.spans]
        return found

    def of_trace(self) -> dict[str, tuple[str, Span]]:
        return {span.name: (service, span) for service, span in self.spans() if span.trace_id.hex() == TRACE}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join(10)
    made.server.server_close()


def attributes(span: Span) -> dict[str, object]:
    return {pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes}


def test_one_trace_from_the_request_to_the_last_node(start_server: StartServer, receiver: Receiver) -> None:
    nodes = [sql_node("good", "SELECT 1 AS x"), sql_node("bad", f"SELECT error('{SECRET}') AS x FROM input")]
    pipeline = make_pipeline(nodes, [("good", "bad")])
    server = start_server(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, OTEL_BSP_SCHEDULE_DELAY="100", OTEL_EXPORTER_OTLP_COMPRESSION="none")
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-01", "x-request-id": "the-request"}
    assert requests.get(f"{server.url}/api/runs?token={SECRET}", headers={"traceparent": "nonsense"}, timeout=30).status_code == 400
    assert requests.post(f"{server.url}/api/pipelines/{pipeline.id}/run", headers=headers, timeout=30).status_code == 202
    wait_for(lambda: Run.objects.filter(status="failed").exists(), what="the run to fail")
    route = "POST /api/pipelines/<str:pipeline_id>/run"
    wait_for(lambda: {route, "run", "node sql"} <= receiver.of_trace().keys(), what="the spans")
    found = receiver.of_trace()

    (web, asked), (worker, run), (_, node) = found[route], found["run"], found["node sql"]
    assert (web, worker) == ("brokoli-web", "brokoli-worker")
    assert asked.parent_span_id.hex() == CALLER
    assert run.parent_span_id == asked.span_id
    assert node.parent_span_id == run.span_id
    assert (asked.kind, asked.status.code, run.status.code) == (Span.SPAN_KIND_SERVER, 0, 2)
    assert attributes(asked) == {
        "brokoli.request_id": "the-request",
        "http.request.method": "POST",
        "http.route": "/api/pipelines/<str:pipeline_id>/run",
        "http.response.status_code": 202,
    }
    assert attributes(run)["brokoli.run.id"] == str(Run.objects.get().id)
    ended = {attributes(span)["brokoli.node.id"]: span.status.code for _, span in receiver.spans() if span.name == "node sql"}
    assert ended == {"good": 0, "bad": 2}
    assert SECRET.encode() not in b"".join(receiver.bodies)


@pytest.mark.any_database
def test_without_an_endpoint_nothing_is_imported() -> None:
    lines = [
        "import django, sys",
        "django.setup()",
        "import brokoli_site.asgi, runs.worker",
        "from brokoli_site.common import tracing",
        "assert not tracing.start('web') and tracing.current() == ''",
        "with tracing.span('x') as span: span.set(a=1); span.rename('y'); span.fail('z')",
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]",
    ]
    env = environment(DJANGO_SETTINGS_MODULE="brokoli_site.settings")
    done = subprocess.run([sys.executable, "-W", "error", "-c", "\n".join(lines)], env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.any_database
def test_an_endpoint_without_the_packages_is_told_and_harms_nothing() -> None:
    lines = [
        "import django, sys",
        "sys.modules['opentelemetry'] = None  # as if it were not installed",
        "django.setup()",
        "from brokoli_site.common import tracing",
        "assert not tracing.start('web') and not tracing.is_on()",
    ]
    env = environment(DJANGO_SETTINGS_MODULE="brokoli_site.settings", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, "install requirements-opentelemetry.txt" in done.stderr) == (0, True), done.stderr


_TRACED = """
import sys, time, django
django.setup()
from brokoli_site.common import tracing
assert tracing.start('web')
with tracing.span('the last one'): pass
print(time.time(), flush=True)
"""


def traced_program(endpoint: str) -> float:
    """Starts a program that traces something and ends. Returns how many seconds its end took."""
    env = environment(DJANGO_SETTINGS_MODULE="brokoli_site.settings", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_EXPORTER_OTLP_COMPRESSION="none")
    done = subprocess.run([sys.executable, "-c", _TRACED], env=env, cwd=ROOT, capture_output=True, text=True, check=True)
    return time.time() - float(done.stdout)


@pytest.mark.any_database
def test_what_was_traced_last_is_sent_at_the_end(receiver: Receiver) -> None:
    traced_program(receiver.url)

    assert [span.name for _, span in receiver.spans()] == ["the last one"]


@pytest.mark.any_database
def test_a_silent_receiver_does_not_hold_up_the_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert traced_program(f"http://127.0.0.1:{silent.getsockname()[1]}") < min(within(6), 9.5)  # it would be asked for ten, and more
