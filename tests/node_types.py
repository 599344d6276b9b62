"""Small node types, installed as a third party's package would be, so that tests of pipelines do not depend on what the real ones accept."""

from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from pipelines.nodes import registry
from pipelines.nodes.base import Analysis, Column, NodeConfig, NodeContext, NodeType, PassThrough, Ports, Result, Schema
from pipelines.problems import Problem
from pipelines.spec import NodeSpec


class _Stub(NodeType):
    category = "transform"
    help = "For tests."

    def run(self, context: NodeContext) -> Result:
        return PassThrough()


class RowsConfig(NodeConfig):
    columns: list[str] = Field(min_length=1)
    count: int = Field(default=1, ge=1, description="How many rows.")


class Rows(_Stub):
    name = "stub_rows"
    label = "Rows"
    ports = Ports(0, 0)
    Config = RowsConfig

    def normalise(self, config: Any) -> dict[str, Any]:
        found = dict(config)
        if "n" in found:
            found.setdefault("count", found.pop("n"))
        return found

    def analyse(self, node: NodeSpec, config: Any, inputs: Sequence[Schema | None]) -> Analysis:
        return Analysis(schema=tuple(Column(name, "VARCHAR") for name in config.columns))


class Rule(BaseModel):
    model_config = ConfigDict(extra="allow")
    type: Literal["keep", "drop"]
    column: str


class PickConfig(NodeConfig):
    rules: list[Rule] = Field(default_factory=list)
    mode: Literal["a", "b"] = "a"


class Pick(_Stub):
    """Knows the columns of its input, and complains of rules about others."""

    name = "stub_pick"
    label = "Pick"
    ports = Ports(1, 1)
    Config = PickConfig

    def analyse(self, node: NodeSpec, config: Any, inputs: Sequence[Schema | None]) -> Analysis:
        given = inputs[0]
        if given is None:
            return Analysis()
        names = {column.name for column in given}
        problems = [
            Problem(f"There is no column '{rule.column}'.", field=f"rules.{index}.column", line=1, column=1)
            for index, rule in enumerate(config.rules)
            if rule.column not in names
        ]
        dropped = {rule.column for rule in config.rules if rule.type == "drop"}
        if config.mode == "b":
            problems.append(Problem("Mode b is slow.", field="mode", severity="warning"))
        return Analysis(tuple(problems), tuple(column for column in given if column.name not in dropped))


class Both(_Stub):
    name = "stub_both"
    label = "Both"
    ports = Ports(2, 2)
    Config = NodeConfig

    def analyse(self, node: NodeSpec, config: Any, inputs: Sequence[Schema | None]) -> Analysis:
        left, right = inputs
        return Analysis(schema=None if left is None or right is None else left + right)


class Many(_Stub):
    name = "stub_many"
    label = "Many"
    ports = Ports(1, None)
    Config = NodeConfig


class ScriptConfig(NodeConfig):
    script: str = Field(default="", max_length=100)
    arguments: dict[str, Any] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)


class Script(_Stub):
    """Its script, and what is nested in its options, is passed as it is."""

    name = "stub_script"
    label = "Script"
    ports = Ports(0, 1)
    Config = ScriptConfig
    raw_keys = frozenset({"script", "options"})


_TYPES = (Rows, Pick, Both, Many, Script)


@pytest.fixture
def stub_types(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`stub_rows`, `stub_pick`, `stub_both`, `stub_many` and `stub_script` are node types while the test runs."""
    points = [EntryPoint(found.name, f"{__name__}:{found.__name__}", registry.ENTRY_POINT_GROUP) for found in _TYPES]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    forget_types()
    yield
    forget_types()


def forget_types() -> None:
    """The registry looks for the types of installed packages anew."""
    for cached in (registry._entry_points, registry._third_party, registry._loaded):
        cached.cache_clear()
