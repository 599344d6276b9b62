from django.apps import AppConfig
from django.db.models.signals import post_migrate

from accounts import roles
from brokoli_site.common import rights

RIGHTS = {"settings": {"manage_users": "Can manage users", "manage_roles": "Can manage roles"}}


class AccountsConfig(AppConfig):
    name = "accounts"

    def ready(self) -> None:
        rights.register(self.name, RIGHTS)
        # Sent for one app after the other; this one stands last among those with rights, so theirs are there.
        post_migrate.connect(roles.keep, dispatch_uid="accounts.roles")
