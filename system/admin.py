"""The admin site as a whole: its name."""

from django.contrib import admin

from system import audit_admin  # noqa: F401 - registers its page

admin.site.site_header = admin.site.site_title = "Brokoli"
admin.site.index_title = "Everything at a glance"
admin.site.site_url = "/api/docs"
