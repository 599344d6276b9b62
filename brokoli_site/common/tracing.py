"""Traces for OpenTelemetry: of requests, of runs and of their nodes, one trace from the trigger to the last node.

Only where `OTEL_EXPORTER_OTLP_ENDPOINT` says where they go, and the packages of `requirements-opentelemetry.txt` are installed. Elsewhere nothing
is imported, and a span costs as much as a function that returns.

Spans name routes, ids and types. They carry no address as it came, no error's words and no value: who reads traces may be somebody else.
"""

import atexit
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from brokoli_site.common import request_ids
from brokoli_site.common.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

logger = structlog.get_logger(__name__)

HEADER = "traceparent"  # W3C Trace Context
_FAREWELL_SECONDS = 2.0


class Span:
    """A stretch of work. Without a tracer it is nothing, and may be told anything."""

    def set(self, **attributes: str | int) -> None:
        """Attributes, with `__` for the dots of their names."""

    def rename(self, name: str) -> None: ...

    def fail(self, kind: str) -> None:
        """It did not go well; `kind` names how, in a word of ours."""


_NOTHING = Span()


class _Recorded(Span):
    def __init__(self, span: Any, error: Any) -> None:
        self._span, self._error = span, error

    def set(self, **attributes: str | int) -> None:
        self._span.set_attributes({name.replace("__", "."): value for name, value in attributes.items()})

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def fail(self, kind: str) -> None:
        self._span.set_status(self._error, kind)


class _Tracing:
    """The tracer of this process, once `start` has made one."""

    tracer: "Tracer | None" = None


def start(service: str) -> bool:
    """Trace this process as `service` (`OTEL_SERVICE_NAME` goes before). False where nobody asked for it, or it is not installed."""
    if not settings.TRACES_ENDPOINT:
        return False
    try:
        _Tracing.tracer = _open(service)
    except ImportError:
        logger.warning("traces are not sent", reason="install requirements-opentelemetry.txt, or unset OTEL_EXPORTER_OTLP_ENDPOINT")
        return False
    return True


def is_on() -> bool:
    return _Tracing.tracer is not None


def _open(service: str) -> "Tracer":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra that few install
    from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    named = Resource({SERVICE_NAME: service, "service.version": VERSION}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=named, shutdown_on_exit=False)
    # Sends from a thread of its own, and drops what it cannot keep: a receiver that is away slows nobody.
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _send_the_rest_at_exit(provider.shutdown)
    return provider.get_tracer("brokoli", VERSION)


def _send_the_rest_at_exit(send: Callable[[], None]) -> None:
    """What was not sent yet is sent when the process ends, as far as the receiver takes it at once: a silent one would hold up the end for long."""
    ending = threading.Event()

    def send_at_last() -> None:
        ending.wait()
        send()

    # Started now: while Python ends, none can be started any more.
    last = threading.Thread(target=send_at_last, name="last traces", daemon=True)
    last.start()

    def end() -> None:
        ending.set()
        last.join(_FAREWELL_SECONDS)

    atexit.register(end)


@contextmanager
def span(name: str, *, parent: str = "", serves: bool = False, **attributes: str | int) -> Iterator[Span]:
    """A span while the block lasts, below `parent` (a `traceparent`) or else the thread's current one. `serves`: it answers a request."""
    if _Tracing.tracer is None:
        yield _NOTHING
        return
    from opentelemetry import trace  # noqa: PLC0415 - it is installed where there is a tracer
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    context = TraceContextTextMapPropagator().extract({HEADER: parent}) if parent else None
    kind = trace.SpanKind.SERVER if serves else trace.SpanKind.INTERNAL
    started = _Tracing.tracer.start_as_current_span(name, context=context, kind=kind, record_exception=False, set_status_on_exception=False)
    with started as raw:
        recorded = _Recorded(raw, trace.StatusCode.ERROR)
        recorded.set(**attributes)
        structlog.contextvars.bind_contextvars(trace_id=f"{raw.get_span_context().trace_id:032x}")
        try:
            yield recorded
        except BaseException as error:
            recorded.fail(type(error).__name__)
            raise


def current() -> str:
    """The `traceparent` of the thread's current span; "" without one."""
    if _Tracing.tracer is None:
        return ""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415 - as above

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get(HEADER, "")


def traced(**data: Any) -> Mapping[str, Any]:
    """`data` of an entry of the log, with the current span, so that who goes on from the entry goes on in its trace."""
    parent = current()
    return {**data, HEADER: parent} if parent else data


class TracingMiddleware:
    """A span for each request. Where nothing is traced, Django leaves it out."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        if not start("brokoli-web"):
            raise MiddlewareNotUsed
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        method = request_ids.method_of(request)
        with span(method, parent=request.headers.get(HEADER, ""), serves=True, brokoli__request_id=request_ids.of(request)) as mine:
            response = self.get_response(request)
            route = request_ids.route_of(request)
            mine.rename(f"{method} {route}")
            mine.set(http__request__method=method, http__route=route, http__response__status_code=response.status_code)
            if response.status_code >= 500:
                mine.fail(str(response.status_code))
        return response
