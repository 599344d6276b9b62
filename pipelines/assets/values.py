"""The terms in which a node type says what it reads and writes. Pure, and known to every node type."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["file", "table", "api"]


@dataclass(frozen=True, slots=True)
class Asset:
    """A file, a table or an API. Two nodes that name the same kind, place and name share it.

    `place`: the connection's name, or the server without login, password and options; "" for the data folders, and for an address that
    is whole in `name`. Never a secret. `known`: whether the config tells what it is; if not, nothing else is taken for the same.
    """

    kind: Kind
    place: str
    name: str
    known: bool = True


@dataclass(frozen=True, slots=True)
class Assets:
    """What one node reads and writes.

    `statements_for`: it makes the statements that fill this table; `by_statements`: what it writes is up to those that come in.
    """

    reads: tuple[Asset, ...] = ()
    writes: tuple[Asset, ...] = ()
    statements_for: str = ""
    by_statements: bool = False


@dataclass(frozen=True, slots=True)
class Database:
    """What has to be known of a connection to read SQL that is meant for it: sqlglot's name of the dialect ("" its own), its database."""

    dialect: str = ""
    database: str = ""


# By the connection's name; one that does not exist (yet) is left out.
Databases = Mapping[str, Database]


def text(config: Mapping[str, Any], key: str) -> str:
    """The text under `key` of a config that may be wrong; "" for anything else."""
    found = config.get(key)
    return found.strip() if isinstance(found, str) else ""
