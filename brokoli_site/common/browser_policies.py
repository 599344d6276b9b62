"""What browsers are told with every answer: where a page may load from, who may frame or embed it, which of the device it may use.

The Content-Security-Policy knows two kinds of answers. Pages load from this server, and nothing in them runs or styles but files: no script and no
style that somebody managed to put into the text of a page. All else (JSON, logs, files) is data: opened in a tab, it loads nothing.
"""

from typing import Any

from csp.constants import NONE, SELF
from csp.middleware import CSPMiddleware, PolicyParts
from django.http import HttpRequest
from django.http.response import HttpResponseBase

PAGES: dict[str, Any] = {
    "default-src": [NONE],
    "script-src": [SELF],
    "style-src": [SELF],
    "img-src": [SELF, "data:"],
    "font-src": [SELF],
    "connect-src": [SELF],
    "form-action": [SELF],
    "frame-ancestors": [NONE],
    "base-uri": [NONE],
}
_DATA: dict[str, Any] = {"default-src": [NONE], "frame-ancestors": [NONE]}
_HEADERS = {
    "Permissions-Policy": ", ".join(
        f"{feature}=()" for feature in ("camera", "display-capture", "geolocation", "microphone", "midi", "payment", "serial", "usb")
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
}


class BrowserPoliciesMiddleware(CSPMiddleware):
    """Stands before all that may answer, so that no answer goes without."""

    def get_policy_parts(self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False) -> PolicyParts:
        parts = super().get_policy_parts(request, response, report_only)
        if not report_only and not response.headers.get("Content-Type", "").startswith("text/html"):
            parts.config = _DATA
        return parts

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        if request.path_info.startswith("/api/"):  # who logs out, on a machine that others use too, leaves nothing behind
            response.headers.setdefault("Cache-Control", "no-store")
        return super().process_response(request, response)
