"""Routes of the API about the whole. No trailing slashes."""

from django.urls import path

from system.api import purge

urlpatterns = [
    path("system/purge", purge.PurgeView.as_view(), name="system-purge"),
]
