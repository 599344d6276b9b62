"""Django's admin with a site of ours; stands in `INSTALLED_APPS` in its place."""

from django.contrib.admin.apps import AdminConfig


class BrokoliAdminConfig(AdminConfig):
    default_site = "accounts.admin_site.BrokoliAdminSite"
