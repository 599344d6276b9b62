"""`GET /health`, for those who gave credentials; `system.probes` answers all others."""

from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from brokoli_site.common.api import ApiView
from brokoli_site.common.version import VERSION
from system import health

RIGHT = "runs.view"


@extend_schema(exclude=True)
class HealthView(ApiView):
    """`{status}`, and for whoever may see runs, what each part does: `{status, version, checks: {database: {status, message, …}, …}}`."""

    permission_classes = [AllowAny]  # noqa: RUF012 - DRF declares it so

    def get(self, request: Request) -> Response:
        found = health.health()
        headers = {"Cache-Control": "no-store"}
        if not (request.user.is_authenticated and request.user.has_perm(RIGHT)):
            return Response({"status": found.status}, status=found.status_code, headers=headers)
        return Response({"status": found.status, "version": VERSION, "checks": found.as_json()}, status=found.status_code, headers=headers)
