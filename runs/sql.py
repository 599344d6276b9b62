"""Names and values as SQL text for DuckDB, for the statements that the engine itself builds. Users' SQL goes through `pipelines.expressions`."""

from functools import lru_cache

from sqlglot import exp


@lru_cache(maxsize=8192)
def identifier(name: str) -> str:
    """`"name"`, quoted whatever it holds."""
    return str(exp.to_identifier(name, quoted=True).sql(dialect="duckdb"))


def text(value: object) -> str:
    """`'value'`: a path or another text of ours."""
    return str(exp.Literal.string(str(value)).sql(dialect="duckdb"))


def parquet(path: object) -> str:
    """The relation that a Parquet file is."""
    return f"read_parquet({text(path)})"
