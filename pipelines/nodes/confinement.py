"""What scripts and commands may use of the machine: which files, and how much memory."""

import functools
from typing import Any

import structlog
from django.conf import settings

from brokoli_site.common.errors import NodeError
from brokoli_site.common.private_paths import private_paths
from pipelines.nodes.base import NodeContext
from pipelines.processes import landlock
from pipelines.processes.running import ProcessLimits, Reach

_MIB = 1024**2
_logger = structlog.get_logger(__name__)
HINT = "Scripts and commands reach their own folder, the data folders, and what an operator adds in BROKOLI_CODE_PATHS."


def reach_of(context: NodeContext) -> Reach | None:
    """The files that the node's processes may open; None where they are not confined. Errors: `NodeError` where they must be and cannot."""
    if settings.CODE_SANDBOX == "off":
        return None
    if not landlock.version():
        if settings.CODE_SANDBOX == "required":
            raise NodeError("The kernel of the worker cannot confine scripts (Landlock), and BROKOLI_CODE_SANDBOX requires it.")
        _note_that_nothing_is_confined()
        return None
    inputs = [one.path for one in context.inputs if one.path is not None]
    return Reach(inputs, context.files.roots, settings.CODE_PATHS, [*context.files.forbidden, *private_paths()])


def limits_of(config: Any) -> ProcessLimits:
    """As the node's config says, within what the operator allows. Errors: `NodeError`."""
    for sentence in too_much(config):
        raise NodeError(f"Field 'max_memory_mb' {sentence}.")
    memory = min(config.max_memory_mb, most_memory_mb())
    return ProcessLimits.within(settings.LEASE_SECONDS, memory, config.max_cpu_seconds, config.max_disk_mb)


def too_much(config: Any) -> list[str]:
    """Why the node may not have the memory that it asks for. What is merely the default is lowered in silence."""
    if "max_memory_mb" not in config.model_fields_set or config.max_memory_mb <= most_memory_mb():
        return []
    return [f"must be at most {most_memory_mb()} on this server (BROKOLI_CODE_MAX_MEMORY)"]


def most_memory_mb() -> int:
    return int(settings.CODE_MAX_MEMORY // _MIB)


@functools.cache
def _note_that_nothing_is_confined() -> None:
    """Once a worker."""
    _logger.warning("scripts and commands can open whatever this account can: the kernel offers no Landlock", setting="BROKOLI_CODE_SANDBOX")
