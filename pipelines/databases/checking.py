"""What can be said of a config that names a database, before it runs."""

import re

from brokoli_site.common.errors import NodeError
from pipelines.databases.generic import dialect_of
from pipelines.databases.places import of_uri
from pipelines.databases.queries import parse
from pipelines.expressions import ExpressionError
from pipelines.problems import Problem
from pipelines.references import is_unresolved

# A password in the text itself; `${secret.x}` in its place is what should be there, if it must be a URI.
_PASSWORD = re.compile(r"^[a-z][a-z0-9+.-]*://[^/?#@:]*:(?!\$\{)[^@]+@", re.IGNORECASE)
_DIALECTS = ("postgres", "mysql", "sqlite")


def check_place(conn_id: str, uri: str, conn_field: str, uri_field: str) -> list[Problem]:
    """Neither named, both named, a URI that cannot be read, a password in the open."""
    if not conn_id and not uri:
        return [Problem(f"Name a connection, or give a '{uri_field}'.", field=conn_field)]
    problems = []
    if conn_id and uri:
        problems.append(Problem(f"The connection is used; '{uri_field}' is not.", field=uri_field, severity="warning"))
    if _PASSWORD.match(uri):
        problems.append(
            Problem(
                "A password stands in the pipeline for everyone to read. Use a connection (or a secret: ${secret.NAME}).",
                field=uri_field,
                severity="warning",
            )
        )
    if uri and not conn_id and not is_unresolved(uri):
        try:
            of_uri(uri)
        except NodeError as error:
            problems.append(Problem(error.message, field=uri_field))
    return problems


def check_query(query: str, uri: str, field: str) -> list[Problem]:
    """What is wrong with the text whatever the database: of a connection the dialect is not known yet, so one that takes it is enough."""
    errors: list[ExpressionError] = []
    for dialect in _dialects(uri):
        try:
            parse(query, dialect)
        except ExpressionError as error:
            errors.append(error)
        else:
            return []
    first = errors[0]
    return [Problem(first.sentence, field=field, line=first.line, column=first.column)]


def _dialects(uri: str) -> tuple[str, ...]:
    if not uri or is_unresolved(uri):
        return _DIALECTS
    try:
        place = of_uri(uri)
    except NodeError:
        return _DIALECTS
    return (dialect_of(place),)
