"""What a pipeline needs of others before it runs, and whose end makes it run: `depends_on`, `dependency_rules`. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipelines.problems import Problem

UpstreamState = Literal["succeeded", "completed", "failed"]
DependencyMode = Literal["gate", "trigger"]


@dataclass(frozen=True, slots=True)
class DependencyRule:
    """One upstream pipeline, by id or slug as the document writes it, and how its last ended run must have ended."""

    pipeline_id: str
    state: UpstreamState = "succeeded"
    within_seconds: int | None = None
    mode: DependencyMode = "gate"
    pointer: str = ""  # JSON Pointer in the document, for problems found later


def read(document: Mapping[str, Any], problems: list[Problem]) -> tuple[DependencyRule, ...]:
    """The rules under `depends_on` and `dependency_rules`; what cannot be read is added to `problems`."""
    return ()
