from django.apps import AppConfig
from django.core import checks

from brokoli_site.common import rights
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
        rights.register(self.name, RIGHTS)
