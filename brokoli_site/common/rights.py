"""Rights of no model, named as the API names them: `connections.test` is, in Django's terms, the right `test` of an app `connections`."""

from collections.abc import Mapping
from typing import Any

from django.apps import AppConfig
from django.apps import apps as installed
from django.db.models.signals import post_migrate


def register(owner: str, rights: Mapping[str, Mapping[str, str]]) -> None:
    """Have `migrate` make these when it makes the rights of models: what people read, by name, by app. `owner` is the app that needs them."""

    def make(*, app_config: AppConfig, using: str, apps: Any = installed, **_: Any) -> None:
        if app_config.label != "auth":
            return
        try:
            kinds, made = apps.get_model("contenttypes", "ContentType"), apps.get_model("auth", "Permission")
        except LookupError:
            return  # these tables were migrated away
        for label, names in rights.items():
            kind, _created = kinds.objects.using(using).get_or_create(app_label=label, model=label)
            for codename, name in names.items():
                made.objects.using(using).get_or_create(content_type=kind, codename=codename, defaults={"name": name})

    post_migrate.connect(make, weak=False, dispatch_uid=f"{owner}.rights")
