"""Every setting that comes from the environment: its name, its default, what it means, and how it is read.

`docs/configuration.md` shows the same table and a test keeps the two equal. A value that cannot be used raises
`ImproperlyConfigured` with one sentence that names the variable, the value and what is accepted.
"""

import os
import re
import warnings
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from email.utils import parseaddr
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import environ
import psutil
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.validators import validate_email

from brokoli_site.common import outbound
from brokoli_site.common.addresses import Allowed
from brokoli_site.common.proxies import Trusted

ENV_FILE = "BROKOLI_ENV_FILE"
_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>.*)")
_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|TB|KIB|MIB|GIB|TIB)?\s*$", re.IGNORECASE)
_UNITS = {"": 1, "B": 1} | {f"{p}B": 1000**i for i, p in enumerate("KMGT", 1)} | {f"{p}IB": 1024**i for i, p in enumerate("KMGT", 1)}
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True)
class Variable:
    """One environment variable. `default` is what the table shows; `read` turns the text into the value."""

    name: str
    default: str
    help: str
    read: Callable[[str, "Mapping[str, Any]"], Any]


def available_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its control group's where that is less."""
    total = int(psutil.virtual_memory().total)
    for limit in _CGROUP_LIMITS:
        try:
            text = limit.read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            total = min(total, int(text))
    return total


def _integer(low: int, high: int) -> Callable[[str, Mapping[str, Any]], int]:
    def read(text: str, _: Mapping[str, Any]) -> int:
        if not re.fullmatch(r"\d{1,12}", text.strip()) or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return read


def _choice(*choices: str) -> Callable[[str, Mapping[str, Any]], str]:
    def read(text: str, _: Mapping[str, Any]) -> str:
        if text not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return text

    return read


def _boolean(text: str, _: Mapping[str, Any]) -> bool:
    known = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.strip().lower() not in known:
        raise ValueError("true or false")
    return known[text.strip().lower()]


def _size(text: str, _: Mapping[str, Any]) -> int:
    """Bytes, from `2GB`, `512MiB` or `50%` (of the memory that this process may use)."""
    percent = re.fullmatch(r"\s*(\d{1,3})\s*%\s*", text)
    if percent and 1 <= int(percent[1]) <= 100:
        return available_memory() * int(percent[1]) // 100
    match = _SIZE.match(text)
    size = float(match[1]) * _UNITS[(match[2] or "").upper()] if match else 0.0
    if not 128 * 1024**2 <= size < 2**63:
        raise ValueError("a size of 128MiB or more, such as 2GB, or a share of the memory, such as 50%")
    return int(size)


def _optional_size(text: str, known: Mapping[str, Any]) -> int | None:
    return _size(text, known) if text.strip() else None


def _path(text: str, _: Mapping[str, Any]) -> Path:
    if not text.strip() or "\0" in text:
        raise ValueError("the path of a folder")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:  # `~name` of nobody
        raise ValueError("the path of a folder") from error


def _artifacts(text: str, known: Mapping[str, Any]) -> Path:
    if re.match(r"^[a-z][a-z0-9+.-]*://", text) and not text.startswith("file://"):
        raise ValueError("the path of a local folder (object storage is not supported by this version)")
    return _path(text.removeprefix("file://"), known) if text else Path(known["BROKOLI_HOME"]) / "artifacts"


def _under_home(name: str) -> Callable[[str, Mapping[str, Any]], Path]:
    def read(text: str, known: Mapping[str, Any]) -> Path:
        return _path(text, known) if text else Path(known["BROKOLI_HOME"]) / name

    return read


def _folders(text: str, known: Mapping[str, Any]) -> tuple[Path, ...]:
    if not text:
        return (Path(known["BROKOLI_HOME"]) / "data",)
    folders = tuple(_path(part, known) for part in text.split(os.pathsep) if part)
    if not folders or any(folder.exists() and not folder.is_dir() for folder in folders):
        raise ValueError(f"paths of folders, separated by {os.pathsep}")
    return folders


def _paths(text: str, _: Mapping[str, Any]) -> tuple[Path, ...]:
    found = tuple(Path(part) for part in text.split(os.pathsep) if part)
    if "\0" in text or not all(path.is_absolute() for path in found):
        raise ValueError(f"absolute paths, separated by {os.pathsep}")
    return found


def _programs(text: str, _: Mapping[str, Any]) -> tuple[Path, ...]:
    found = tuple(Path(part) for part in text.split(os.pathsep) if part)
    if not all(path.is_absolute() and path.is_file() and os.access(path, os.X_OK) for path in found):
        raise ValueError(f"absolute paths of programs, separated by {os.pathsep}")
    return found


def _program(text: str, known: Mapping[str, Any]) -> Path | None:
    found = _programs(text, known)
    if len(found) > 1:
        raise ValueError("the absolute path of one program")
    return found[0] if found else None


def _database(text: str, known: Mapping[str, Any]) -> dict[str, Any]:
    if not text:
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(Path(known["BROKOLI_HOME"]) / "brokoli.sqlite3")}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # django-environ only warns of an engine that it does not know
            config = dict(environ.Env.db_url_config(text))
    except (ValueError, KeyError, UserWarning, ImproperlyConfigured) as error:
        raise ValueError("sqlite:///path/to/file or postgres://user:password@host:5432/name") from error
    # A database in memory would be another one for each process.
    if config.get("ENGINE") not in ("django.db.backends.sqlite3", "django.db.backends.postgresql") or config.get("NAME") in (None, "", ":memory:"):
        raise ValueError("sqlite:///path/to/file or postgres://user:password@host:5432/name")
    return config


def _names(text: str, _: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _node_types(text: str, known: Mapping[str, Any]) -> tuple[str, ...]:
    """An empty variable stands for the default, here as everywhere, so "no types" needs a word of its own."""
    return tuple(name for name in _names(text, known) if name != "none")


def _origins(text: str, known: Mapping[str, Any]) -> tuple[str, ...]:
    origins = _names(text, known)
    if not all(re.fullmatch(r"https?://[^/\s]+", origin) for origin in origins):
        raise ValueError("origins such as https://brokoli.example.org, separated by commas")
    return origins


def _allowed_networks(text: str, _: Mapping[str, Any]) -> Allowed:
    try:
        return Allowed.read(text)
    except ValueError as error:
        raise ValueError("networks and host names, such as 10.20.0.0/16,hooks.intern.example.org") from error


def _trusted_proxies(text: str, _: Mapping[str, Any]) -> Trusted:
    try:
        return Trusted.read(text)
    except ValueError as error:
        raise ValueError("addresses and networks of proxies, such as 127.0.0.1,10.20.0.0/16; or unix") from error


def _email(text: str, _: Mapping[str, Any]) -> dict[str, Any]:
    """Django's settings of that name; none without a URL."""
    if not text:
        return {}
    expected = "smtp://user:password@host:587?tls=true"
    url = urlsplit(text)
    query = dict(parse_qsl(url.query, keep_blank_values=True))
    known = {"true": True, "1": True, "false": False, "0": False}
    try:
        tls, ssl = known[query.pop("tls", "false").lower()], known[query.pop("ssl", "false").lower()]
        config = dict(environ.Env.email_url_config(url._replace(query="").geturl()))
    except (KeyError, ValueError, ImproperlyConfigured) as error:
        raise ValueError(expected) from error
    if not url.scheme.startswith("smtp") or not config["EMAIL_HOST"] or query or url.path.strip("/") or (tls and ssl):
        raise ValueError(expected)
    ssl = ssl or bool(config.get("EMAIL_USE_SSL"))
    tls = (tls or bool(config.get("EMAIL_USE_TLS"))) and not ssl
    return {
        "EMAIL_HOST": config["EMAIL_HOST"],
        "EMAIL_PORT": config["EMAIL_PORT"] or (465 if ssl else 587 if tls else 25),
        "EMAIL_HOST_USER": config["EMAIL_HOST_USER"] or "",
        "EMAIL_HOST_PASSWORD": config["EMAIL_HOST_PASSWORD"] or "",
        "EMAIL_USE_TLS": tls,
        "EMAIL_USE_SSL": ssl,
    }


def _collector(text: str, _: Mapping[str, Any]) -> str:
    """The address of an OpenLineage collector, without a slash at its end."""
    if text and (fault := outbound.check_url(text) or ("It ends before any ? or #." if set(text) & set("?#\\") else "")):
        raise ValueError(f"the address of a collector, such as http://marquez.example.org:5000 ({fault.removesuffix('.')})")
    return text.rstrip("/")


def _header_text(text: str, _: Mapping[str, Any]) -> str:
    if not text.isascii() or any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError("a key of printable ASCII characters without spaces")
    return text


def _redis(text: str, _: Mapping[str, Any]) -> str:
    if text and (not re.fullmatch(r"(rediss?|unix)://\S+", text)):
        raise ValueError("redis://host:6379/0, rediss://… or unix:///path")
    if text and find_spec("redis") is None:
        raise ValueError("nothing: the Python package redis is not installed here (pip install redis)")
    return text


def _address(text: str, _: Mapping[str, Any]) -> str:
    try:
        validate_email(parseaddr(text)[1])
    except ValidationError as error:
        raise ValueError("an address such as brokoli@example.org or Brokoli <brokoli@example.org>") from error
    if any(ord(character) < 32 for character in text):
        raise ValueError("an address on one line")
    return text


def _env_file(text: str, _: Mapping[str, Any]) -> Path | None:
    path = Path(text) if text else None
    if path and (not path.is_absolute() or not path.is_file() or not os.access(path, os.R_OK)):
        raise ValueError("the absolute path of a file that this account can read")
    return path


def _text(text: str, _: Mapping[str, Any]) -> str:
    return text


def _token(text: str, _: Mapping[str, Any]) -> str:
    if text and not re.fullmatch(r"[!-~]{16,512}", text):
        raise ValueError("16 characters or more, without spaces, of ASCII")
    return text


VARIABLES = (
    Variable("BROKOLI_HOME", "./var", "Folder of everything that Brokoli keeps: database, artifacts, keys, data.", _path),
    Variable("DATABASE_URL", "", "`sqlite:///…` or `postgres://user:password@host:5432/name`. Empty: SQLite in `BROKOLI_HOME`.", _database),
    Variable("BROKOLI_ARTIFACTS", "", "Folder of the node outputs. Empty: `BROKOLI_HOME/artifacts`.", _artifacts),
    Variable(
        "BROKOLI_DATA_DIRS",
        "",
        "Folders that file nodes may read and write, separated by `:`; relative paths start at the first. Empty: `BROKOLI_HOME/data`.",
        _folders,
    ),
    Variable("BROKOLI_SECRET_KEY", "", "Key that signs sessions, 32 characters or more. Empty: made once, kept in `BROKOLI_HOME/keys`.", _text),
    Variable(
        "BROKOLI_ENCRYPTION_KEYS",
        "",
        "Keys that seal stored secrets, newest first, separated by commas (Fernet keys). Empty: made once, kept in `BROKOLI_HOME/keys`.",
        _text,
    ),
    Variable("BROKOLI_SECRETS_DIR", "", "Folder of the files that `file://` secrets name. Empty: `BROKOLI_HOME/secrets`.", _under_home("secrets")),
    Variable("BROKOLI_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]", "Host names that the server answers to, separated by commas.", _names),
    Variable("BROKOLI_TRUSTED_ORIGINS", "", "Origins (`https://host`) that may send forms when a proxy ends TLS, separated by commas.", _origins),
    Variable(
        "BROKOLI_TRUSTED_PROXIES",
        "",
        "Addresses and networks of the proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed, separated by commas. Empty: nobody's.",
        _trusted_proxies,
    ),
    Variable("BROKOLI_HTTPS", "false", "Whether people reach the server by https alone: cookies for it, HSTS, no plain http.", _boolean),
    Variable("BROKOLI_BIND", "127.0.0.1", "Address that the server listens on; `serve --host` sets it.", _text),
    Variable("BROKOLI_DEBUG", "false", "Django's debug mode. Never on a server that others reach.", _boolean),
    Variable("BROKOLI_WORKER_CONCURRENCY", "4", "Runs that one worker executes at the same time.", _integer(1, 256)),
    Variable("BROKOLI_NODE_CONCURRENCY", "4", "Nodes of one run that execute at the same time.", _integer(1, 64)),
    Variable(
        "BROKOLI_POOL_SLOTS", "16", "Slots of a pool that nobody made: its nodes, of any runs, that execute at the same time.", _integer(1, 10_000)
    ),
    Variable("BROKOLI_MEMORY_LIMIT", "50%", "Memory that the data engine of one worker may use before it spills to disk: `2GB`, `50%`.", _size),
    Variable("BROKOLI_SPILL_LIMIT", "", "Disk space that one run may spill. Empty: what is free.", _optional_size),
    Variable("BROKOLI_THREADS", "0", "Threads of the data engine of one run. 0: one a processor.", _integer(0, 1024)),
    Variable("BROKOLI_LEASE_SECONDS", "15", "Seconds without a heartbeat after which a worker's runs go to another.", _integer(2, 3600)),
    Variable("BROKOLI_MAX_DEATHS", "3", "Workers that a run may lose before it fails.", _integer(1, 100)),
    Variable("BROKOLI_DRAIN_SECONDS", "30", "Seconds that running nodes get to finish when a worker is told to stop.", _integer(0, 86400)),
    Variable("BROKOLI_DISABLED_NODE_TYPES", "bash", "Node types that are refused, separated by commas; `none` refuses none.", _node_types),
    Variable(
        "BROKOLI_ALLOWED_NETWORKS",
        "",
        "Networks and hosts off the public internet that pipelines may send to, separated by commas: `10.20.0.0/16,hooks.intern.example.org`.",
        _allowed_networks,
    ),
    Variable("BROKOLI_EMAIL_URL", "", "Where mail goes out: `smtp://user:password@host:587?tls=true`. Empty: email hooks fail.", _email),
    Variable("BROKOLI_EMAIL_FROM", "brokoli@localhost", "Sender of the mail.", _address),
    Variable("BROKOLI_RETENTION_DAYS", "0", "Days after its end that a run is kept with its logs and outputs. 0: for ever.", _integer(0, 36500)),
    Variable("BROKOLI_AUDIT_DAYS", "365", "Days that an entry of the audit log is kept. 0: for ever.", _integer(0, 36500)),
    Variable(
        "BROKOLI_REDIS_URL",
        "",
        "Redis that tells web servers of news for `/api/ws`, and keeps the counters of rate limits for all of them. Empty: none; nothing needs one.",
        _redis,
    ),
    Variable("BROKOLI_RATE_LIMIT", "6000", "Requests that one user may send in a minute. 0: any number.", _integer(0, 10_000_000)),
    Variable(
        "BROKOLI_RATE_LIMIT_STRANGERS",
        "600",
        "Requests in a minute from one address that show no credentials, or none that are known to be right (IPv6: from one /64). 0: any number.",
        _integer(0, 10_000_000),
    ),
    Variable(
        "BROKOLI_RATE_LIMIT_GUESSES",
        "30",
        "Wrong passwords in a minute from one address, and wrong tokens at one webhook. 0: any number.",
        _integer(0, 10_000_000),
    ),
    Variable("BROKOLI_MAX_SOCKETS_PER_USER", "100", "WebSockets that one user keeps open at one web process.", _integer(1, 100_000)),
    Variable("BROKOLI_MAX_SOCKETS", "1000", "WebSockets that one web process keeps open at the same time.", _integer(1, 100_000)),
    Variable(
        "BROKOLI_PYTHON_PATHS",
        "",
        "Interpreters that code nodes may choose with `python_path`, separated by `:`. Each needs pyarrow. Empty: only the server's own.",
        _programs,
    ),
    Variable("BROKOLI_DBT", "", "The dbt that dbt nodes run. Empty: the first on the worker's PATH.", _program),
    Variable("BROKOLI_CODE_MAX_MEMORY", "75%", "The most that `max_memory_mb` of a code or bash node may say: `4GB`, `75%`.", _size),
    Variable(
        "BROKOLI_CODE_SANDBOX",
        "auto",
        "Whether scripts and commands open only their own files (Landlock): `auto` where the kernel can, `required`, or `off`.",
        _choice("auto", "required", "off"),
    ),
    Variable(
        "BROKOLI_CODE_PATHS",
        "",
        "Further files and folders that scripts and commands may read and write, separated by `:`. The data folders are among them anyway.",
        _paths,
    ),
    Variable(
        "BROKOLI_SCHEDULER",
        "workers",
        "Who looks at the clock: the `workers`, each second; or the system's `cron`, each minute, which purges at night, too (docs/schedules.md).",
        _choice("workers", "cron"),
    ),
    Variable(
        ENV_FILE,
        "",
        "File of further variables, one `NAME=value` a line, readable by the processes' account alone. The environment goes before it.",
        _env_file,
    ),
    Variable("BROKOLI_LOGIN_HOURS", "12", "Hours that a login lasts: a session, or the token of `POST /api/auth/login`.", _integer(1, 8760)),
    Variable(
        "BROKOLI_METRICS_TOKEN",
        "",
        "Token, 16 characters or more, with which Prometheus reads `/metrics`. Empty: only users who may see runs do.",
        _token,
    ),
    Variable(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "",
        "Where traces go, `http://collector:4318`, once `requirements-opentelemetry.txt` is installed. Its other `OTEL_…` variables hold as well.",
        _text,
    ),
    Variable("OPENLINEAGE_URL", "", "Collector of OpenLineage events, such as `http://marquez.example.org:5000`. Empty: none are sent.", _collector),
    Variable("OPENLINEAGE_API_KEY", "", "Key for it, sent as `Authorization: Bearer …`.", _header_text),
    Variable("OPENLINEAGE_NAMESPACE", "brokoli", "Namespace of the jobs in these events.", _text),
    Variable("BROKOLI_LOG_LEVEL", "INFO", "Least level that the processes log.", _choice("DEBUG", "INFO", "WARNING", "ERROR")),
    Variable("BROKOLI_LOG_FORMAT", "console", "`console` for people, `json` for machines.", _choice("console", "json")),
)


_SECRET = frozenset(
    {
        *("DATABASE_URL", "BROKOLI_SECRET_KEY", "BROKOLI_ENCRYPTION_KEYS", "BROKOLI_EMAIL_URL", "BROKOLI_METRICS_TOKEN"),
        *("BROKOLI_REDIS_URL", "OPENLINEAGE_URL", "OPENLINEAGE_API_KEY"),
    }
)


def file_values(path: str) -> dict[str, str]:
    """The variables of a file as `BROKOLI_ENV_FILE` names one: `NAME=value` lines, empty ones, and comments that begin with `#`.

    A value may stand in quotes, single or double; nothing in it is replaced. Errors: `ImproperlyConfigured` that names the line, never what it says.
    """
    values: dict[str, str] = {}
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ImproperlyConfigured(f"{ENV_FILE}: {path!r} cannot be read; expected the absolute path of a UTF-8 file.") from error
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _ASSIGNMENT.fullmatch(line)
        if match is None or "\0" in line:
            raise ImproperlyConfigured(f"{ENV_FILE}: line {number} of {path} cannot be read; expected NAME=value.")
        value = match["value"].strip()
        values[match["name"]] = value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value
    return values


def read_file(into: MutableMapping[str, str]) -> tuple[str, ...]:
    """Add the variables of the file that the environment names, where it does not say them itself. Errors: `ImproperlyConfigured`.

    Returns those of our variables that a process would see otherwise which has only the file.
    """
    path = into.get(ENV_FILE, "")
    filed = file_values(path) if path else {}
    for name, value in filed.items():
        into[name] = into.get(name) or value  # an empty one stands for its default, here as everywhere
    return tuple(variable.name for variable in VARIABLES if into.get(variable.name, "") != filed.get(variable.name, ""))


def load(source: Mapping[str, str]) -> dict[str, Any]:
    """All settings by variable name. Errors: `ImproperlyConfigured` naming the first value that cannot be used."""
    values: dict[str, Any] = {}
    for variable in VARIABLES:
        text = source.get(variable.name, "") or variable.default
        try:
            values[variable.name] = variable.read(text, values)
        except ValueError as error:
            # The URL of a database or of a mail server carries a password; the message must not.
            shown = "the value given" if variable.name in _SECRET else repr(text)
            raise ImproperlyConfigured(f"{variable.name}: {shown} cannot be used; expected {error}.") from error
    return values
