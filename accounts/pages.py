"""`/login` and `/logout`, for people."""

from typing import Any

from django.contrib.auth import views
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache

from brokoli_site.common import audit
from brokoli_site.common.local_mode import is_local_administrator


class LoginPage(views.LoginView):
    """Whoever is logged in already goes on to where they wanted; so does the person at this machine while there is no user."""

    template_name = "accounts/login.html"
    redirect_authenticated_user = True

    def form_valid(self, form: Any) -> Any:
        response = super().form_valid(form)
        user = form.get_user()
        audit.note("auth.login", "user", user.pk, user.get_username(), by=user)
        return response


@method_decorator(never_cache, name="dispatch")
class LogoutPage(views.LogoutView):
    """A POST ends the session."""

    template_name = "accounts/logged_out.html"
    http_method_names = ["post", "options"]  # noqa: RUF012 - Django declares it so

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.user.is_authenticated and not is_local_administrator(request.user):
            audit.note("auth.logout", "user", request.user.pk, request.user.get_username(), by=request.user)
        return super().post(request, *args, **kwargs)
