"""Whom a pipeline tells of what happens to its runs: `hooks` of a document. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipelines.problems import Problem

HookKind = Literal["webhook", "slack", "email"]
EVENTS = ("on_start", "on_success", "on_failure", "on_node_failure", "on_sla_miss")


@dataclass(frozen=True, slots=True)
class Hook:
    """One receiver of one event. `url` is where to post, or for email who receives it; references in it are resolved when it is sent."""

    kind: HookKind
    url: str
    extra: Mapping[str, Any] = field(default_factory=dict)


def read(document: Mapping[str, Any], problems: list[Problem]) -> dict[str, tuple[Hook, ...]]:
    """The enabled hooks by event; what cannot be read is added to `problems`."""
    return {}


def stored(hook: Hook) -> dict[str, Any]:
    """The hook as JSON, as runs and notifications keep it."""
    return {"kind": hook.kind, "url": hook.url, "extra": dict(hook.extra)}
