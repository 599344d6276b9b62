"""Columns as the API writes them, made by the database: of thousands of rows, turning each value into an object costs more than to read it."""

from typing import Any

from django.db.models import Func, TextField

_DASHED = "substr({0}, 1, 8) || '-' || substr({0}, 9, 4) || '-' || substr({0}, 13, 4) || '-' || substr({0}, 17, 4) || '-' || substr({0}, 21)"
_ISO = "substr({0}, 1, 10) || 'T' || substr({0}, 12, 8) || substr(substr({0}, 20) || '.000', 1, 4) || 'Z'"


class IdText(Func):
    """A UUID in its canonical form."""

    arity = 1
    output_field = TextField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return _repeated(self, compiler, _DASHED)  # stored without hyphens

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="(%(expressions)s)::text", **context)


class MomentText(Func):
    """A time as `common.time.iso` writes it: UTC, milliseconds, cut and not rounded; null stays null."""

    arity = 1
    output_field = TextField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return _repeated(self, compiler, _ISO)  # stored as `2024-01-15 06:00:00.123456`, or without a fraction

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = """to_char((%(expressions)s) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""
        return self.as_sql(compiler, connection, template=template, **context)


def _repeated(function: Func, compiler: Any, template: str) -> tuple[str, list[Any]]:
    """The template with the argument in each of its places."""
    sql, params = compiler.compile(function.get_source_expressions()[0])
    return f"({template.format(sql)})", list(params) * template.count("{0}")
