"""`wait`: what is there lets the data pass; what is not there yet is in tests/unit/nodes/test_wait.py, for a node that parks has no outcome."""

from socket import create_server
from typing import Any

from tests.contracts.case import Cases, Failing, Given, Invalid, Valid
from tests.contracts.workshop import Workshop

DATA = "SELECT * FROM (VALUES (1, 'a'), (2, NULL)) t(id, name)"


def _file(name: str, content: str = "x") -> Any:
    return lambda workshop: (workshop.folder / name).write_text(content)


def _two_files(workshop: Workshop) -> None:
    (workshop.folder / "in").mkdir()
    for name in "ab":
        _file(f"in/{name}.csv")(workshop)


def _typical(workshop: Workshop, table: str) -> Given:
    (workshop.folder / "ready").write_text("yes")
    return Given({"condition": "file_exists", "path": "ready"}, [table])


def _slow(workshop: Workshop) -> Given:
    """A server that takes the connection and says nothing."""
    server = create_server(("127.0.0.1", 0))
    workshop.keep(server)
    return Given({"condition": "http", "url": f"http://127.0.0.1:{server.getsockname()[1]}/"}, [DATA])


def wrong(field: str, words: str, **config: Any) -> Invalid:
    return Invalid({"condition": "file_exists", "path": "x", **config}, [DATA], field=field, words=words)


CASES = Cases(
    typical=_typical,
    slow=_slow,
    valid=[
        Valid(
            {"condition": "file_exists", "path": "in/*.csv", "non_empty": True},
            [DATA],
            columns=["id", "name"],
            rows=[(1, "a"), (2, None)],
            logged=["There is 'in/*.csv': 2 files"],
            before=_two_files,
            name="a pattern",
        ),
        Valid({"condition": "file_exists", "path": "ready"}, columns=["waited_for"], rows=[], before=_file("ready", ""), name="without an input"),
        Valid({"condition": "interval_elapsed", "offset": "1h30m"}, [DATA], rows=[(1, "a"), (2, None)], logged=["no interval and no date"]),
        Valid({"condition": "file_exists", "path": "a", "timeout": "2h45m", "poll_interval": 90, "offset": "0"}, [DATA], before=_file("a")),
    ],
    invalid=[
        Invalid({}, field="condition", words="is missing"),
        wrong("condition", "must be 'file_exists', 'http', 'interval_elapsed' or 'pipeline'", condition="row_count > 0"),
        wrong("path", "must not be empty when the condition is file_exists", path=" "),
        wrong("url", "must not be empty when the condition is http", condition="http"),
        wrong("url", "must start with https:// or http://", condition="http", url="ftp://example.org/x"),
        wrong("pipeline_id", "must not be empty when the condition is pipeline", condition="pipeline"),
        wrong("poll_interval", "must be a duration such as 30s", poll_interval="soon"),
        wrong("poll_interval", "must be 1", poll_interval="10ms"),
        wrong("poll_interval", "must be 3600", poll_interval="2h"),
        wrong("timeout", "must be a duration such as 30s", timeout="1 day"),
        wrong("timeout", "must be 604800", timeout="200h"),
        wrong("offset", "must be a duration", offset=-5),
        wrong("expect_status", "must be 599 or less", expect_status=999),
        wrong("match", "must be 'latest', 'date' or 'interval'", match="newest"),
        Invalid(
            {"condition": "pipeline", "pipeline_id": "orders"}, [DATA], field="pipeline_id", words="there is no pipeline 'orders'", at_save=False
        ),
        Invalid({"condition": "file_exists", "path": "${param.nope}"}, [DATA], field="path", words="the run has no parameter nope", at_save=False),
    ],
    failing=[
        Failing({"condition": "file_exists", "path": "/etc/passwd"}, [DATA], words=["'/etc/passwd' is outside the data folders"]),
        Failing({"condition": "file_exists", "path": "../x"}, [DATA], words=["must not contain '..'"]),
        Failing({"condition": "http", "url": "http://169.254.169.254/latest"}, [DATA], words=["may not be asked", "BROKOLI_ALLOWED_NETWORKS"]),
    ],
)
