"""A session for writing to an open database, whatever it is."""

from brokoli_site.common.errors import NodeError
from pipelines.databases.generic import GenericDatabase
from pipelines.databases.generic_loading import GenericSession
from pipelines.databases.loading import Session
from pipelines.databases.mysql import MysqlDatabase
from pipelines.databases.mysql_loading import MysqlSession
from pipelines.databases.postgres import PostgresDatabase
from pipelines.databases.postgres_loading import PostgresSession
from pipelines.databases.reading import Database
from pipelines.databases.sqlite import SqliteDatabase
from pipelines.databases.sqlite_loading import SqliteSession


def session_of(database: Database, *, read_only: bool = False) -> Session:
    """`read_only`: nothing but descriptions will be asked for. Errors: `NodeError` for a database that cannot be written to."""
    match database:
        case PostgresDatabase():
            return PostgresSession(database.connection, database.place)
        case MysqlDatabase():
            return MysqlSession(database.connection, database.place)
        case SqliteDatabase():
            return SqliteSession(database.connection, database.place, database.stop, read_only=read_only)
        case GenericDatabase():
            return GenericSession(database.connection, database.place, database.dialect)
    raise NodeError(f"{database.place.system} cannot be written to.")
