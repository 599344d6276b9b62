"""The parameters that a pipeline declares: names, types, defaults, what is required and what may be chosen. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.problems import Problem


@dataclass(frozen=True, slots=True)
class Parameter:
    """One declared parameter. `choices` empty: any value of the type."""

    name: str
    type: str = "string"
    default: Any = None
    required: bool = False
    choices: tuple[Any, ...] = ()
    description: str = ""


def read(document: Mapping[str, Any], problems: list[Problem]) -> tuple[Parameter, ...]:
    """The declarations under `parameters`; what cannot be read is added to `problems`."""
    return ()
