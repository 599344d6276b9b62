"""The admin's page on which people change their own password: by the rules of `POST /api/auth/password`."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.forms import AdminPasswordChangeForm
from django.contrib.auth import authenticate
from django.contrib.auth.views import PasswordChangeView
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from brokoli_site.common import audit


class _OwnPasswordForm(AdminPasswordChangeForm):
    def __init__(self, *args: Any, request: HttpRequest, **options: Any) -> None:
        self._request = request
        super().__init__(*args, **options)

    def clean_old_password(self) -> str:
        """As at a login, so that whoever found an open session cannot guess on."""
        old: str = self.cleaned_data["old_password"]
        if authenticate(request=self._request, username=self.user.get_username(), password=old) is None:
            raise ValidationError(self.error_messages["password_incorrect"], code="password_incorrect")
        return old


class _OwnPasswordPage(PasswordChangeView):
    form_class = _OwnPasswordForm

    def get_form_kwargs(self) -> dict[str, Any]:
        return super().get_form_kwargs() | {"request": self.request}

    def form_valid(self, form: Any) -> HttpResponse:
        with transaction.atomic():
            response = super().form_valid(form)
            audit.record("user.password_changed", "user", form.user.pk, form.user.get_username())
        return response


class BrokoliAdminSite(admin.AdminSite):
    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        view = _OwnPasswordPage.as_view(
            success_url=reverse("admin:password_change_done", current_app=self.name),
            extra_context={**self.each_context(request), **(extra_context or {})},
        )
        return view(request)
