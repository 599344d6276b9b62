"""What drivers complain of, as sentences for people, and whether it is worth another try. No DSN, password or address is in them.

The classes of SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html; MariaDB's numbers:
https://mariadb.com/kb/en/mariadb-error-code-reference/.
"""

import re

from brokoli_site.common.errors import NodeError, TransientNodeError
from pipelines.databases.places import Place

_LONGEST = 600
# Of what a server says, which may be a gigabyte: what is looked through for secrets, and what is understood of it.
_MOST_HEARD, _MOST_READ = 20_000, 4_000

# 08 connection, 40 serialisation and deadlocks, 53 resources, 57P the server goes away, 55P03 lock not available.
_TRANSIENT_STATES = re.compile("08...|40...|53...|57P0[1-5]|55P03|XX000")
_TRANSIENT_NUMBERS = frozenset({1040, 1053, 1158, 1159, 1160, 1161, 1203, 1205, 1213, 1226, 1290, 1927, 2002, 2003, 2006, 2013, 2055, 4031})

_GONE = re.compile(
    r"server closed the connection|terminating connection|connection (?:to server )?.*(?:reset|lost|closed)|could not receive data|"
    r"could not send data|broken pipe|lost connection|gone away|SSL SYSCALL|EOF detected|unexpected eof|no connection to the server",
    re.IGNORECASE,
)
_REFUSED = re.compile(r"connection refused|errno 111", re.IGNORECASE)
_TIMEOUT = re.compile(r"timeout expired|timed out|no route to host|network is unreachable|host is (?:down|unreachable)", re.IGNORECASE)
_PASSWORD = re.compile(
    r"password authentication failed|access denied for user|no password supplied|authentication failed|pam authentication", re.IGNORECASE
)
_NO_DATABASE = re.compile(r'database "[^"]*" does not exist|unknown database', re.IGNORECASE)
_NO_ROLE = re.compile(r'role "[^"]*" (?:does not exist|is not permitted)|no pg_hba\.conf entry|is not allowed to connect', re.IGNORECASE)
_TLS = re.compile(r"\bSSL\b|\bTLS\b|certificate", re.IGNORECASE)
_BUSY = re.compile(
    r"too many (?:connections|clients)|remaining connection slots|starting up|shutting down|recovery mode|database is locked", re.IGNORECASE
)
# What ADBC wraps around the server's words.
_WRAPPING = re.compile(
    r"^(?:[A-Z_]+: )?(?:\[(?:libpq|SQLite)\] ?)?(?:Failed to (?:prepare|execute|step) query: |Execution error \[[A-Z_]+\]: |could not begin COPY: )*"
    r"(?:ERROR:\s+|FATAL:\s+)?"
)
_APPENDED = re.compile(r"\s*(?:\bquery: |Query was: |SQLSTATE: |\nLINE \d+:|\nCONTEXT: |\n\s*\^).*", re.DOTALL)
_ADDRESS = re.compile(r'connection to server at "[^"]*"(?: \([^)]*\))?, port \d+ failed:\s*')


def heard(error: Exception, place: Place) -> str:
    """The start of what was said, without secrets: they go before it is cut, or half of one would stay."""
    return place.redact(str(error)[:_MOST_HEARD])[:_MOST_READ]


def of_connecting(error: Exception, place: Place) -> NodeError:
    """Why `place` cannot be reached or entered."""
    text = heard(error, place)
    where = f"{place.system} at {place.host}:{place.port}" if place.host else place.system
    for pattern, sentence, passes in (
        (_BUSY, f"{where} takes no more connections now, or is starting or stopping.", True),
        (_REFUSED, f"{where} refused the connection: nothing listens there now. Check the host and port of {place.label}.", True),
        (_PASSWORD, f"{where} did not accept the login or the password of {place.label}.", False),
        (_NO_DATABASE, f"{where} has no database '{place.database}'. Correct {place.label}.", False),
        (_NO_ROLE, f"{where} does not let the login of {place.label} in. Check the login, and what the server allows.", False),
        (_GONE, f"{where} closed the connection.", True),
        (_TIMEOUT, f"{where} did not answer in time. Check the host and port of {place.label}, and the firewalls between.", True),
        (_TLS, f"{where}: TLS failed: {_words(text)}", False),
    ):
        if pattern.search(text):
            return TransientNodeError(sentence) if passes else NodeError(sentence)
    return TransientNodeError(f"{where} cannot be reached with {place.label}: {_words(text)}")


def of_query(error: Exception, place: Place) -> NodeError:
    """What the database says against a query, in its own words; or that it went away."""
    text = heard(error, place)
    words = _words(text)
    state, number = _state(error), _number(error)
    if _GONE.search(text) or number in (2006, 2013, 2055) or state in ("57P01", "57P02", "57P03"):
        return TransientNodeError(f"{place.system} went away in the middle of the work: {words}")
    if _TRANSIENT_STATES.fullmatch(state) or number in _TRANSIENT_NUMBERS or _BUSY.search(text):
        return TransientNodeError(f"{place.system} could not do this now: {words}")
    return NodeError(f"{place.system} refused the query: {words}")


def _state(error: Exception) -> str:
    return str(getattr(error, "sqlstate", None) or "")


def _number(error: Exception) -> int | None:
    first = error.args[0] if error.args else None
    return first if isinstance(first, int) else None


def _words(text: str) -> str:
    """The server's own sentence, on one line."""
    if told := re.search(r"""^\{'S': .*?'M': (['"])(.*?)\1, '[A-Z]': """, text, re.DOTALL):  # of pg8000: the fields of PostgreSQL's message
        text = told[2]
    if pair := re.match(r"""^\(\d+, ['"](.*)['"]\)$""", text, re.DOTALL):  # of PyMySQL
        text = pair[1]
    text = _APPENDED.sub("", _WRAPPING.sub("", _ADDRESS.sub("", text.strip())))
    text = " ".join(_WRAPPING.sub("", text).split())[:_LONGEST].rstrip(". ")
    return f"{text}." if text else "it gives no reason."
