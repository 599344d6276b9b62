"""What `manage.py check` says of pipelines' parts."""

from typing import Any

from django.core import checks
from django.core.checks import CheckMessage

from pipelines.nodes import registry


def check_node_types(**_: Any) -> list[CheckMessage]:
    """Node types of installed packages that cannot be used. Only warned of: everything else works."""
    hint = "Update or remove the package. Pipelines with this type are refused until then; all others run."
    return [checks.Warning(fault, hint=hint, id="pipelines.W001") for fault in registry.faults()]
