"""A dbt profile from a connection, so that its password is kept once. https://docs.getdbt.com/docs/core/connect-data-platform/profiles.yml"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from django.conf import settings

from brokoli_site.common.addresses import resolve
from brokoli_site.common.errors import NodeError
from pipelines.nodes.base import NodeContext
from pipelines.vault import ConnectionDetails

ACCEPTED = ("mysql", "postgres", "sqlite")
PASSWORD = "BROKOLI_DBT_PASSWORD"  # noqa: S105 - the name of a variable; dbt hides those that begin with DBT_ENV_SECRET_ only in its own log
_MOST_BYTES = 1024 * 1024
_RESOLVER_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Profile:
    """`text` of a `profiles.yml`, and the variables that it refers to."""

    text: str
    environment: Mapping[str, str]


def name_in(project: Path) -> str:
    """Which profile the project asks for. Errors: `NodeError`."""
    file = project / "dbt_project.yml"
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise NodeError("dbt_project.yml is larger than 1 MiB.")
        read = yaml.safe_load(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise NodeError("Field 'project_dir': there is no dbt_project.yml in it.") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise NodeError("dbt_project.yml is not valid YAML.") from error
    name = read.get("profile") if isinstance(read, dict) else None
    if not isinstance(name, str) or not name:
        raise NodeError("dbt_project.yml names no `profile`; with `conn_id` it is made under that name.")
    return name


def of_connection(context: NodeContext, details: ConnectionDetails, name: str, target: str, schema: str) -> Profile:
    """Errors: `NodeError`; those of `addresses.resolve` for a host that may not be reached."""
    if details.type != "sqlite":
        # dbt connects by itself, so what is judged here is the name; the address is its resolver's.
        resolve(details.host, details.port or 0, settings.ALLOWED_NETWORKS, _RESOLVER_SECONDS)
    output = {"postgres": _postgres, "mysql": _mysql, "sqlite": _sqlite}[details.type](context, details, schema)
    text = yaml.safe_dump({name: {"target": target, "outputs": {target: output}}}, sort_keys=False)
    return Profile(text, {PASSWORD: details.password})


def _postgres(context: NodeContext, details: ConnectionDetails, schema: str) -> dict[str, Any]:
    found = {
        "type": "postgres",
        "host": details.host,
        "port": details.port or 5432,
        "user": details.login,
        "password": _from_environment(),
        "dbname": details.schema,
        "schema": schema or "public",
        "threads": 4,
    }
    return found | {name: details.extra[name] for name in ("sslmode", "sslrootcert", "connect_timeout") if name in details.extra}


def _mysql(context: NodeContext, details: ConnectionDetails, schema: str) -> dict[str, Any]:
    return {
        "type": "mysql",
        "server": details.host,
        "port": details.port or 3306,
        "schema": schema or details.schema,
        "username": details.login,
        "password": _from_environment(),
    }


def _sqlite(context: NodeContext, details: ConnectionDetails, schema: str) -> dict[str, Any]:
    file = context.files.resolve_write(details.host)
    return {
        "type": "sqlite",
        "threads": 1,
        "database": "database",
        "schema": schema or "main",
        "schemas_and_paths": {"main": str(file)},
        "schema_directory": str(file.parent),
    }


def _from_environment() -> str:
    return f"{{{{ env_var('{PASSWORD}') }}}}"
