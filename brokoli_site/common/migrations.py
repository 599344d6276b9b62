"""Is the database as this version of the code expects it?"""

from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor


def missing(on: BaseDatabaseWrapper | None = None) -> list[str]:
    """The migrations that have not been applied, in their order, as `runs.0009_operations`."""
    executor = MigrationExecutor(on or connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _backwards in plan]


def is_up_to_date() -> bool:
    """Whether every migration has been applied."""
    return not missing()
