"""Routes. Each app's API lives in its own `api/urls.py`."""

from django.contrib import admin
from django.urls import include, path

from brokoli_site.common.openapi import DocsView, SchemaView

urlpatterns = [
    path("api/", include("pipelines.api.urls")),
    path("api/schema", SchemaView.as_view(), name="schema"),
    path("api/docs", DocsView.as_view(), name="docs"),
    path("api/", include("runs.api.urls")),
    path("admin/", admin.site.urls),
]

handler400 = "brokoli_site.common.problems.handler400"
handler403 = "brokoli_site.common.problems.handler403"
handler404 = "brokoli_site.common.problems.handler404"
handler500 = "brokoli_site.common.problems.handler500"
