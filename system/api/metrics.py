"""`GET /metrics`, for those who log in; `system.probes` answers whoever shows the token."""

from typing import ClassVar

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from brokoli_site.common.api import ApiView
from system import metrics


@extend_schema(exclude=True)
class MetricsView(ApiView):
    """The metrics as text."""

    required_permissions: ClassVar = {"GET": metrics.RIGHT}

    def get(self, request: Request) -> HttpResponse:
        return HttpResponse(metrics.exposition(), content_type=metrics.CONTENT_TYPE)
