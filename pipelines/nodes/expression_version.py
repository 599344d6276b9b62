"""What the configs of `project`, `filter` and `aggregate` have in common."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field


def _version(value: Any) -> Any:
    if type(value) is not int or value != 1:
        raise ValueError("must be 1, the only version that there is")
    return value


ExpressionVersion = Annotated[int, BeforeValidator(_version)]
# Documents that the SDK writes carry the columns that it foresees under `schema`. Ours are those that DuckDB gives.
DECLARED_SCHEMA: Any = Field(default=None, alias="schema", description="The output's columns as the SDK foresaw them; kept, and not needed.")
