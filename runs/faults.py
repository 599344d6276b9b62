"""What DuckDB and the operating system complain of, as sentences for people: no path of the host, no internals."""

import errno
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import duckdb

from brokoli_site.common.errors import BrokoliError, NodeError, TransientNodeError

_LONGEST = 2000
# DuckDB prefixes its class ("Binder Error: "), and appends the line of SQL with a caret under it and advice on settings.
_PREFIX = re.compile(r"^[A-Z][A-Za-z ]{2,40} (?:Error|Exception): ?")
_ADVICE = re.compile(r"\n+\s*(?:LINE \d+:|Possible (?:fixes|solutions)|\* |Error Code|See https?:).*", re.DOTALL)
_DISK_FULL = re.compile(r"no space left on device|max_temp_directory_size|failed to offload|disk quota exceeded|could not write all", re.IGNORECASE)
_DISK_FULL_NUMBERS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_TRANSIENT_NUMBERS = frozenset({errno.EIO, errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ETIMEDOUT, errno.EBUSY})

DISK_FULL = (
    "The disk is full: the node's output or its spilled data found no room. Free space (old runs can be purged), or raise BROKOLI_SPILL_LIMIT."
)
OUT_OF_MEMORY = (
    "The node needs more memory than the data engine may use, even with spilling to disk. Raise BROKOLI_MEMORY_LIMIT, "
    "lower BROKOLI_WORKER_CONCURRENCY, check BROKOLI_SPILL_LIMIT, or let the node handle fewer or narrower rows at a time."
)

WRONG_VALUE = "TRY_CAST gives null for such values, or filter their rows out before."


@dataclass(frozen=True, slots=True)
class PublicNames:
    """What people call the things that errors name by their path on the host: `names` by path; below `roots` only the last part is told.

    `redact` takes secrets out. It goes first: of a text that is cut, half a secret would not be found again.
    """

    names: dict[str, str] = field(default_factory=dict)
    roots: tuple[str, ...] = ()
    redact: Callable[[str], str] = str

    def add(self, names: Mapping[str, str]) -> None:
        self.names.update(names)

    def called(self, path: str) -> str:
        """The name of one path or key, "a file" when it has none."""
        return self.names.get(path, "a file")

    def hide(self, text: str) -> str:
        """`text` without secrets and paths of the host."""
        text = self.redact(text)
        for path in sorted(self.names, key=len, reverse=True):
            text = text.replace(path, self.names[path])
        for root in self.roots:
            text = re.sub(re.escape(root) + r"/?(?:[^\s\"',;()\[\]/]+/)*", "", text)
        return text


def of(error: Exception, names: PublicNames) -> NodeError | None:
    """The node's failure that `error` means; None for one that nobody foresaw."""
    match error:
        case NodeError():
            return error
        case BrokoliError():
            return TransientNodeError(error.message) if error.retryable else NodeError(error.message)
        case duckdb.Error():
            return of_duckdb(error, names)
        case OSError():
            return of_system(error, names)
        case MemoryError():
            return NodeError(OUT_OF_MEMORY)
    return None


def unforeseen(error: Exception, type_name: str) -> NodeError:
    """The node's failure where `of` knows none: a bug of its type, of which people get the kind and the log the rest."""
    return NodeError(f"The node type '{type_name}' failed unexpectedly ({type(error).__name__}); the server's log says more.")


def of_duckdb(error: duckdb.Error, names: PublicNames) -> NodeError:
    """The node's failure that `error` means."""
    text = str(error)
    if _DISK_FULL.search(text):
        return TransientNodeError(DISK_FULL)
    if isinstance(error, duckdb.OutOfMemoryException):
        return NodeError(OUT_OF_MEMORY)
    if isinstance(error, duckdb.IOException):
        return TransientNodeError(f"Data could not be read or written: {readable(text, names)}")
    if isinstance(error, duckdb.InternalException | duckdb.FatalException):
        return NodeError(f"The data engine failed inside: {readable(text, names)}")
    if isinstance(error, duckdb.ConversionException):
        return NodeError(f"{readable(text, names).rstrip('.')}. {WRONG_VALUE}")
    return NodeError(readable(text, names))


def of_system(error: OSError, names: PublicNames) -> NodeError:
    """The node's failure that an error of the operating system means."""
    if error.errno in _DISK_FULL_NUMBERS:
        return TransientNodeError(DISK_FULL)
    what = (error.strerror or error.__class__.__name__).lower()
    shown = names.called(str(error.filename))
    message = f"Reading or writing {shown} failed: {what}."
    return TransientNodeError(message) if error.errno in _TRANSIENT_NUMBERS else NodeError(message)


def readable(text: str, names: PublicNames) -> str:
    """DuckDB's sentence without its class, its picture of the SQL, and paths of the host."""
    text = _ADVICE.sub("", _PREFIX.sub("", names.redact(text).strip()))
    return names.hide(text)[:_LONGEST].strip()
