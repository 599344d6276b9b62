"""Counts requests: by route as the URL configuration writes it, never by address, so that nobody can make more series than there are routes."""

import time
from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from brokoli_site.common.request_ids import method_of, route_of
from system import metrics


class HttpMetricsMiddleware:
    """Stands before all that may answer."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        began = time.monotonic()
        response = self.get_response(request)
        metrics.requests.labels(method_of(request), route_of(request), response.status_code).observe(time.monotonic() - began)
        return response
