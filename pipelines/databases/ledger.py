"""What was written already, kept in the target itself: a table with a row for each append, in the transaction that appends.

Its key is the first run of a chain of resumes and the node. An attempt inserts its row before anything else: a rival that is still at
work holds that row, and the database lets the second one wait until the first has committed or given up. So it is a lock, too.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from brokoli_site.common.errors import NodeError, TransientNodeError
from pipelines.databases.declaring import identifier, spelled, table_parts

if TYPE_CHECKING:
    from pipelines.databases.loading import Session

TABLE = "brokoli_loads"
_COLUMNS = ("origin_run", "node", "target", "row_count", "loaded_at")


@dataclass(frozen=True, slots=True)
class Mark:
    """Who writes: the run that all its resumes go on with, the node, and a part of its work where it has parts. `table` keeps the marks."""

    origin_run: str
    node: str
    part: str = ""
    table: str = TABLE

    @property
    def step(self) -> str:
        return f"{self.node}/{self.part}" if self.part else self.node


def ensure(session: "Session", mark: Mark) -> None:
    """Have the table; created in a transaction of its own, where another could be at the same.

    Errors: `NodeError` with the statement, where it may not be created.
    """
    if session.exists(mark.table):
        return
    sql = creation(session, mark.table)
    try:
        session.execute(sql)
        if not session.one_writer:
            session.commit()
    except NodeError as error:
        session.rollback()
        if session.exists(mark.table):  # another was quicker
            return
        if isinstance(error, TransientNodeError):
            raise
        raise NodeError(
            f"The table '{mark.table}', which keeps a repeated append from happening twice, could not be created: {error.message} Let somebody "
            f'create it who may: {sql}; or name another with ledger_table; or set ledger_table to "" and risk rows that are written twice.'
        ) from error


def creation(session: "Session", table: str) -> str:
    """The statement that creates the table, in the dialect of the session."""
    text = "VARCHAR(200)" if session.dialect != "mysql" else "VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    number, moment = ("BIGINT", "TIMESTAMP")
    if session.dialect == "generic":
        text, number, moment = (spelled(one, session.quotes) for one in (text, number, moment))
    types = (f"{text} NOT NULL", f"{text} NOT NULL", f"{text} NOT NULL", number, f"{moment} DEFAULT CURRENT_TIMESTAMP")
    lines = [f"{identifier(name, session.quotes)} {kind}" for name, kind in zip(_COLUMNS, types, strict=True)]
    keys = ", ".join(identifier(name, session.quotes) for name in _COLUMNS[:2])
    engine = " ENGINE=InnoDB" if session.dialect == "mysql" else ""
    # Not every database knows these words, and `ensure` has looked already.
    unless = "" if session.dialect == "generic" else "IF NOT EXISTS "
    return f"CREATE TABLE {unless}{_name(session, table)} ({', '.join(lines)}, PRIMARY KEY ({keys})){engine}"


def claim(session: "Session", mark: Mark, target: str) -> int | None:
    """Note that this is being written now; None when it is to be done, else how many rows were written then. Waits for a rival's end."""
    table, (run, node, about) = _name(session, mark.table), (identifier(name, session.quotes) for name in _COLUMNS[:3])
    values = (mark.origin_run, mark.step, target[:200])
    insert = f"INSERT INTO {table} ({run}, {node}, {about}) VALUES (?, ?, ?)"  # noqa: S608 - quoted identifiers
    if session.insert_if_new(insert, values, (run, node)):
        return None
    count = identifier("row_count", session.quotes)
    found = session.fetch(f"SELECT {count} FROM {table} WHERE {run} = ? AND {node} = ?{session.latest}", values[:2])  # noqa: S608 - quoted identifiers
    if not found:
        raise TransientNodeError("Another attempt of this node gave up a moment ago; this one has to begin anew.")
    return int(str(found[0][0] or 0))


def fill_in(session: "Session", mark: Mark, row_count: int) -> None:
    """Note how many rows were written."""
    run, node, _, count, _ = (identifier(name, session.quotes) for name in _COLUMNS)
    sql = f"UPDATE {_name(session, mark.table)} SET {count} = ? WHERE {run} = ? AND {node} = ?"  # noqa: S608 - quoted identifiers
    session.execute(sql, (row_count, mark.origin_run, mark.step))


def _name(session: "Session", table: str) -> str:
    return ".".join(identifier(part, session.quotes) for part in table_parts(table))
