"""The cases of every registered node type: `cases/<type>.py` each."""

import importlib
from pathlib import Path

from pipelines.nodes import registry
from tests.contracts.case import Cases

_HERE = Path(__file__).parent / "cases"


def missing() -> list[str]:
    """The registered types without a case file."""
    return [name for name in registry.names() if not (_HERE / f"{name}.py").exists()]


CASES: dict[str, Cases] = {name: importlib.import_module(f"tests.contracts.cases.{name}").CASES for name in registry.names() if name not in missing()}
TYPES = tuple(CASES)
