from typing import Any

from django.apps import AppConfig
from django.apps import apps as installed
from django.core import checks
from django.db.models.signals import post_migrate

from runs import added_chores
from system.crontab import TAG, check_crontab


class SystemConfig(AppConfig):
    name = "system"

    def ready(self) -> None:
        # With `--deploy` only: the other commands, `crontab add` and `migrate` among them, must work before the entries are there, and on
        # the machines whose cron has none.
        checks.register(check_crontab, TAG, deploy=True)
        # Django makes the rights of models by itself, at this moment of `migrate`. These are of no model.
        post_migrate.connect(_make_rights, dispatch_uid="system.rights")
        added_chores.makers.append("system.openlineage.chore")


def _make_rights(*, app_config: AppConfig, using: str, apps: Any = installed, **_: Any) -> None:
    """`settings.edit`, named as the API names it: in Django's terms, the right `edit` of an app `settings`."""
    if app_config.label != "auth":
        return
    try:
        kinds, rights = apps.get_model("contenttypes", "ContentType"), apps.get_model("auth", "Permission")
    except LookupError:
        return  # these tables were migrated away
    kind, _created = kinds.objects.using(using).get_or_create(app_label="settings", model="settings")
    rights.objects.using(using).get_or_create(content_type=kind, codename="edit", defaults={"name": "Can change settings and delete old runs"})
