"""Routes of the API about the whole. No trailing slashes."""

from django.urls import path

from system.api import capabilities, purge, workers

urlpatterns = [
    path("capabilities", capabilities.CapabilitiesView.as_view(), name="capabilities"),
    path("system/purge", purge.PurgeView.as_view(), name="system-purge"),
    path("workers", workers.WorkersView.as_view(), name="workers"),
]
