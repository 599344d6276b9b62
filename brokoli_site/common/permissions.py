"""Rights: each view names the permission that it needs; a view that names none is refused."""

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request


class RequiredPermission(BasePermission):
    """Allows a request when the user holds `view.required_permissions[method]` (or `["*"]`).

    Names are the API's (`pipelines.run`), which are Django's `app_label.codename`. The empty string means: any
    authenticated user. A method without an entry is refused, so a forgotten entry is a closed door.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        if not request.user or not request.user.is_authenticated:
            return False
        required: dict[str, str] = getattr(view, "required_permissions", {})
        method = "GET" if request.method in ("HEAD", "OPTIONS") else str(request.method)
        name = required.get(method, required.get("*"))
        if name is None:
            return False
        return name == "" or bool(request.user.has_perm(name))
