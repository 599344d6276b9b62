"""DuckDB's own parser, as a service: text to syntax tree, and back.

What is checked is thus exactly what will run; a second parser that reads a text differently (and each does, somewhere) would be a
way around the checks. The trees are those of `json_serialize_sql`: nested dicts, lists and scalars, deserialised into SQL by
`json_deserialize_sql`. Parsing happens on one in-memory instance a process that can reach no file, setting or extension.
"""

import atexit
import ctypes
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import duckdb
import orjson

from pipelines.problems import shortened

Tree = dict[str, Any]

# DuckDB's "no position".
_NOWHERE = 1 << 63
# Small texts are parsed again and again (each save, each run); large ones are rare, and their trees are fat.
_CACHED_CHARACTERS = 20_000
_DEEPEST_TREE = 500
_TEXTS_AT_ONCE = 256
_LONGEST_MESSAGE = 300


class SyntaxProblem(Exception):
    """The text cannot be parsed. `position` counts bytes of the text that was given, None where unknown."""

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.position = position


class _Instance:
    """The locked instance, made when it is first needed (about 20 ms); cursors of it are connections and cost nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._root: duckdb.DuckDBPyConnection | None = None

    def cursor(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if self._root is None:
                self._root = _connect()
            return self._root.cursor()

    def close(self) -> None:
        """At the end of the process: DuckDB complains on stderr of connections that outlive the interpreter."""
        with self._lock:
            if self._root is not None:
                self._root.close()
            self._root = None

    def forget(self) -> None:
        """In a forked child, which has the parent's instance but not its threads: to use it would hang, and to free it would crash."""
        self._lock = threading.Lock()
        if self._root is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._root))
        self._root = None


def _connect() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(
        ":memory:",
        config={
            "threads": 1,
            "memory_limit": "256MB",
            "enable_external_access": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
            "errors_as_json": True,
            "temp_directory": "",
            "legacy_disable_null_type": True,  # as the engine's instances: the types of results must be theirs
        },
    )
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    # Nothing is computed here that could be optimised; trying to is a fifth of what a parse costs.
    optimizers = ",".join(row[0] for row in connection.execute("SELECT name FROM duckdb_optimizers()").fetchall())
    connection.execute("SET GLOBAL disabled_optimizers = ?", [optimizers])
    connection.execute("SET lock_configuration = true")
    return connection


_instance = _Instance()
os.register_at_fork(after_in_child=_instance.forget)
atexit.register(_instance.close)


def cursor() -> duckdb.DuckDBPyConnection:
    """A connection of its own (own temporary tables) on the locked instance; close it after use. Errors come as JSON texts."""
    return _instance.cursor()


class _Cache:
    """The answers to the texts asked for last, for texts that are not large."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._answers: OrderedDict[str, str] = OrderedDict()

    def get(self, text: str) -> str | None:
        with self._lock:
            answer = self._answers.get(text)
            if answer is not None:
                self._answers.move_to_end(text)
            return answer

    def put(self, text: str, answer: str) -> None:
        if len(text) + len(answer) > _CACHED_CHARACTERS:
            return
        with self._lock:
            self._answers[text] = answer
            if len(self._answers) > self._size:
                self._answers.popitem(last=False)


_trees = _Cache(4096)
_texts = _Cache(2048)


def parse(sql: str) -> list[Tree]:
    """The statements of `sql`, SELECTs only. Errors: `SyntaxProblem`."""
    text = _trees.get(sql)
    if text is None:
        text = _serialised([sql])[0]
        _trees.put(sql, text)
    try:
        answer = orjson.loads(text)
    except orjson.JSONDecodeError as error:  # nested beyond what orjson reads
        raise SyntaxProblem("the expression is nested too deeply") from error
    if answer["error"]:
        raise _problem(answer)
    statements: list[Tree] = answer["statements"]
    for statement in statements:
        _check_depth(statement)
    return statements


def parse_ahead(texts: Iterable[str]) -> None:
    """Parse several texts at once, for `parse` to find: half of what a parse costs is the query that asks for it."""
    wanted = [text for text in dict.fromkeys(texts) if len(text) < _CACHED_CHARACTERS and _trees.get(text) is None]
    if len(wanted) < 2:
        return
    for first in range(0, len(wanted), _TEXTS_AT_ONCE):
        some = wanted[first : first + _TEXTS_AT_ONCE]
        try:
            answers = _serialised(some)
        except SyntaxProblem:  # one of them breaks the parser; `parse` will say which
            continue
        for text, answer in zip(some, answers, strict=True):
            _trees.put(text, answer)


def _serialised(texts: list[str]) -> list[str]:
    with cursor() as connection:
        try:
            if len(texts) == 1:
                rows = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", texts).fetchall()
            else:
                rows = connection.execute("SELECT json_serialize_sql(unnest(?::VARCHAR[]))", [texts]).fetchall()
        except duckdb.Error as error:
            raise SyntaxProblem(error_facts(error)["exception_message"]) from error
    return [str(row[0]) for row in rows]


def render(statements: list[Tree]) -> str:
    """The SQL of trees. Errors: `SyntaxProblem`."""
    # Not orjson: it writes no more than 254 levels, which a hundred `||` in a row exceed.
    text = json.dumps({"error": False, "statements": statements}, ensure_ascii=False, check_circular=False)
    sql = _texts.get(text)
    if sql is None:
        sql = _rendered(text)
        _texts.put(text, sql)
    return sql


def _rendered(text: str) -> str:
    with cursor() as connection:
        try:
            row = connection.execute("SELECT json_deserialize_sql(?::JSON)", [text]).fetchone()
        except duckdb.Error as error:
            raise SyntaxProblem(error_facts(error)["exception_message"]) from error
    assert row is not None
    return str(row[0])


def _problem(answer: Tree) -> SyntaxProblem:
    message = shortened(str(answer.get("error_message", "syntax error")).split("\n")[0], _LONGEST_MESSAGE)
    if "Only SELECT statements" in message:
        return SyntaxProblem("only a single SELECT is allowed")
    if "expression depth" in message:
        return SyntaxProblem("the expression is nested too deeply")
    position = answer.get("position")
    return SyntaxProblem(message, int(position) if position is not None else None)


def error_facts(error: duckdb.Error) -> Tree:
    """What DuckDB says of an error on a connection of this instance: `exception_message`, and where known `position`, `name`, …"""
    text = str(error)
    start = text.find("{")
    if start >= 0:
        try:
            facts = orjson.loads(text[start:])
        except orjson.JSONDecodeError:
            facts = None
        if isinstance(facts, dict) and "exception_message" in facts:
            return facts
    return {"exception_message": text}


def position_of(tree: Tree) -> int | None:
    """Byte position of a tree's text, None where DuckDB does not know it."""
    position = tree.get("query_location")
    return None if not isinstance(position, int) or position >= _NOWHERE else position


def _check_depth(tree: Tree) -> None:
    """What walks a tree does so by recursion; Python's stack must not be what ends it."""
    level: list[Any] = [tree]
    for _ in range(_DEEPEST_TREE):
        level = [child for node in level for child in (node.values() if isinstance(node, dict) else node) if isinstance(child, (dict, list))]
        if not level:
            return
    raise SyntaxProblem("the expression is nested too deeply")
