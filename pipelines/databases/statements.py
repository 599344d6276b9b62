"""SQL text that a node before wrote (`sql_output`): taken apart, looked at, and executed in one transaction."""

import re
from collections.abc import Iterator, Sequence

from brokoli_site.common.errors import NodeError
from pipelines.databases.loading import Session
from pipelines.nodes.base import NodeLogger, Stop

COLUMN = "sql_output"
MOST_BYTES = 64 * 1024**2
MOST_STATEMENTS = 1_000_000
# What may be executed. BEGIN and COMMIT would end the one transaction; ATTACH, COPY and LOAD reach files of the database's machine.
_CHANGES = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "WITH"})
_DEFINES = frozenset({"CREATE", "ALTER", "DROP", "TRUNCATE", "COMMENT"})
_FIRST_CREATED = re.compile(r"create\s+table\s+if\s+not\s+exists\b", re.IGNORECASE)
_TOLD_EVERY = 1000

# Whatever has no end ends with the text. So each character is looked at once: a search that fails would begin again at the next quote.
_COMMENT = r"--[^\n]*|/\*(?:[^*]|\*(?!/))*(?:\*/|\Z)"
_PLAIN = rf"""'[^']*(?:''[^']*)*(?:'|\Z)|"[^"]*(?:""[^"]*)*(?:"|\Z)|{_COMMENT}"""
_ESCAPED = r"'[^'\\]*(?:(?:''|\\.)[^'\\]*)*(?:'|\\?\Z)"
# What may hold a semicolon that ends nothing, in each dialect.
_HOLDERS = {
    "postgres": rf"[eE]{_ESCAPED}|(\$(?:[A-Za-z_]\w*)?\$)(?:.*?)(?:\1|\Z)|{_PLAIN}",
    "mysql": rf"""{_ESCAPED}|"[^"\\]*(?:(?:""|\\.)[^"\\]*)*(?:"|\\?\Z)|`[^`]*(?:`|\Z)|\#[^\n]*|{_COMMENT}""",
}
# Possessive (`*+`): what was skipped is not skipped again in another way, of which long runs of spaces would have millions.
_WORD = re.compile(rf"(?:\s|{_COMMENT})*+([A-Za-z]+)", re.DOTALL)
_NOTHING = re.compile(rf"(?:\s|{_COMMENT})*+\Z", re.DOTALL)


def split(text: str, dialect: str) -> list[str]:
    """The statements of the text. Errors: `NodeError` for too much of it."""
    if len(text.encode()) > MOST_BYTES:
        raise NodeError(f"The column {COLUMN} holds more than {MOST_BYTES // 1024**2} MiB of SQL. Give sink_db the rows themselves instead.")
    found = [statement for statement in _pieces(text, dialect) if not _NOTHING.match(statement)]
    if len(found) > MOST_STATEMENTS:
        raise NodeError(f"The column {COLUMN} holds more than {MOST_STATEMENTS} statements. Give sink_db the rows themselves instead.")
    return found


def _pieces(text: str, dialect: str) -> Iterator[str]:
    holders = re.compile(f"{_HOLDERS.get(dialect, _PLAIN)}|(?P<end>;)", re.DOTALL)
    start = 0
    for match in holders.finditer(text):
        if match["end"]:
            yield text[start : match.start()]
            start = match.end()
    yield text[start:]


def check(session: Session, statements: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those that have to come before the transaction, and those in it. Errors: `NodeError` for a statement that is not executed here."""
    first: list[str] = []
    rest: list[str] = []
    for number, statement in enumerate(statements, start=1):
        match = _WORD.match(statement)
        word = match[1].upper() if match else ""
        if word not in _CHANGES | _DEFINES:
            shown = word or statement.strip()[:20]
            raise NodeError(
                f"Statement {number} of {COLUMN} begins with {shown}, which is not executed here: {', '.join(sorted(_CHANGES | _DEFINES))} are, "
                "all in one transaction."
            )
        if word in _CHANGES or session.transactional_ddl:
            rest.append(statement)
        elif match is not None and _FIRST_CREATED.match(statement, match.start(1)) and not rest:
            first.append(statement)
        else:
            raise NodeError(
                f"Statement {number} of {COLUMN} is a {word}, which {session.system} commits at once, so that the others could not be taken back. "
                "Only CREATE TABLE IF NOT EXISTS, before all others, is executed here."
            )
    return first, rest


def execute(session: Session, statements: Sequence[str], stop: Stop, log: NodeLogger) -> int:
    """Execute them; how many rows they changed. Errors: `NodeError` with the number of the statement at fault; the stop's reason."""
    changed = 0
    for number, statement in enumerate(statements, start=1):
        stop.check()
        try:
            changed += max(0, session.execute(statement))
        except NodeError as error:
            raise type(error)(f"Statement {number} of {len(statements)}: {error.message}") from error
        if number % _TOLD_EVERY == 0:
            log.progress(number / len(statements), f"{number} statements")
    return changed
