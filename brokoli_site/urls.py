"""Routes. Each app's API lives in its own `api/urls.py`."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("api/", include("pipelines.api.urls")),
    path("api/", include("runs.api.urls")),
    path("admin/", admin.site.urls),
]
