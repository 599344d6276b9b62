"""`great_circle`: the distance between two places on Earth, as a column."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from brokoli_site.common.errors import NodeError
from pipelines.expressions import literal, quote
from pipelines.nodes.base import Analysis, Column, NodeConfig, NodeContext, NodeType, Ports, Query, Result, Schema
from pipelines.nodes.columns import find, unknown_column
from pipelines.problems import Problem
from pipelines.spec import NodeSpec

# The mean radius of the Earth (IUGG), for a sphere: distances are within 0.6 % of those on the ellipsoid.
_RADIUS = {"km": 6371.0088, "mi": 3958.7613}
_KEYS = ("from_latitude", "from_longitude", "to_latitude", "to_longitude")


class GreatCircleConfig(NodeConfig):
    """Where the two places stand, in degrees."""

    from_latitude: str = Field(min_length=1, description="Column with the latitude of the first place.")
    from_longitude: str = Field(min_length=1, description="Column with its longitude.")
    to_latitude: str = Field(min_length=1, description="Column with the latitude of the second place.")
    to_longitude: str = Field(min_length=1, description="Column with its longitude.")
    name: str = Field(default="distance", min_length=1, description="Name of the new column.")
    unit: Literal["km", "mi"] = Field(default="km", description="Kilometres or miles.")


class GreatCircle(NodeType):
    name = "great_circle"
    label = "Great circle"
    category = "transform"
    help = "Adds the distance between two places on Earth."
    ports = Ports(1, 1)
    Config = GreatCircleConfig

    def analyse(self, node: NodeSpec, config: GreatCircleConfig, inputs: Sequence[Schema | None]) -> Analysis:
        schema = inputs[0] if inputs else None
        if schema is None:
            return Analysis()
        problems = tuple(_problems(config, schema))
        return Analysis(problems, None if problems else (*schema, Column(config.name, "DOUBLE")))

    def run(self, context: NodeContext) -> Result:
        """Errors: `NodeError` for columns that are not there, or a name that is taken."""
        source = context.inputs[0]
        problems = _problems(context.config, source.schema)
        if problems:
            raise NodeError(" ".join(f"Field '{problem.field}': {problem.message}" for problem in problems))
        distance = _haversine(context.config, source.schema)
        return Query(f"SELECT *, {distance} AS {quote(context.config.name)} FROM {quote(source.view)}")  # noqa: S608 - quoted


def _problems(config: GreatCircleConfig, schema: Schema) -> list[Problem]:
    problems = [Problem(unknown_column(getattr(config, key), schema), field=key) for key in _KEYS if find(schema, getattr(config, key)) is None]
    if find(schema, config.name) is not None:
        problems.append(Problem(f"The input has a column '{config.name}' already; choose another name.", field="name"))
    return problems


def _haversine(config: GreatCircleConfig, schema: Schema) -> str:
    lat1, lon1, lat2, lon2 = (_radians(getattr(config, key), schema) for key in _KEYS)
    half = f"pow(sin(({lat2} - {lat1}) / 2), 2) + cos({lat1}) * cos({lat2}) * pow(sin(({lon2} - {lon1}) / 2), 2)"
    return f"CAST({literal(2 * _RADIUS[config.unit])} * asin(sqrt(CASE WHEN {half} > 1 THEN 1 ELSE {half} END)) AS DOUBLE)"


def _radians(name: str, schema: Schema) -> str:
    column = find(schema, name)
    assert column is not None
    return f"radians(CAST({quote(column.name)} AS DOUBLE))"
