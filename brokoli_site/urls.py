"""Routes. Each app's API lives in its own `api/urls.py`."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from accounts.pages import LoginPage, LogoutPage
from brokoli_site.common.openapi import DocsView, SchemaView
from system.api.health import HealthView
from system.api.metrics import MetricsView

urlpatterns = [
    path("api/schema", SchemaView.as_view(), name="schema"),
    path("api/docs", DocsView.as_view(), name="docs"),
    path("api/", include("accounts.api.urls")),
    path("api/", include("system.api.urls")),  # before those of runs: their `runs/<id>` would take `runs/calendar`
    path("api/", include("runs.api.urls")),
    path("api/", include("pipelines.api.urls")),  # after those of runs: its `pipelines/<id>` would take any name
    path("health", HealthView.as_view(), name="health"),
    path("metrics", MetricsView.as_view(), name="metrics"),
    path("login", LoginPage.as_view(), name="login"),
    path("logout", LogoutPage.as_view(), name="logout"),
    path("admin/", admin.site.urls),
    path("", RedirectView.as_view(pattern_name="admin:index")),
]

handler400 = "brokoli_site.common.problems.handler400"
handler403 = "brokoli_site.common.problems.handler403"
handler404 = "brokoli_site.common.problems.handler404"
handler500 = "brokoli_site.common.problems.handler500"
