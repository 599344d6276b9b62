from typing import Any

from django.apps import AppConfig
from django.apps import apps as installed
from django.core import checks
from django.db.models.signals import post_migrate

from pipelines.checks import check_node_types

# Named as the API names them: in Django's terms, rights of apps `connections` and `variables`.
RIGHTS = {
    "connections": {
        "view": "Can see connections",
        "create": "Can create connections",
        "edit": "Can change connections",
        "delete": "Can delete connections",
        "test": "Can test connections",
    },
    "variables": {
        "view": "Can see variables",
        "create": "Can create variables",
        "edit": "Can change variables",
        "delete": "Can delete variables",
    },
}


class PipelinesConfig(AppConfig):
    name = "pipelines"

    def ready(self) -> None:
        checks.register(check_node_types)
        # Django makes the rights of models by itself, at this moment of `migrate`, and names them after its app.
        post_migrate.connect(_make_rights, dispatch_uid="pipelines.rights")


def _make_rights(*, app_config: AppConfig, using: str, apps: Any = installed, **_: Any) -> None:
    if app_config.label != "auth":
        return
    try:
        kinds, rights = apps.get_model("contenttypes", "ContentType"), apps.get_model("auth", "Permission")
    except LookupError:
        return  # these tables were migrated away
    for label, names in RIGHTS.items():
        kind, _created = kinds.objects.using(using).get_or_create(app_label=label, model=label)
        for codename, name in names.items():
            rights.objects.using(using).get_or_create(content_type=kind, codename=codename, defaults={"name": name})
