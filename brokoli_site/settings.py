"""Django settings. Everything that an operator may change comes from the environment: see `environment.py`."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from brokoli_site import environment
from brokoli_site.common import browser_policies, logs
from brokoli_site.common.addresses import Allowed
from brokoli_site.common.keys import secret_key
from brokoli_site.common.proxies import Trusted
from brokoli_site.common.secrets import Keyring, keyring
from brokoli_site.common.version import VERSION

BASE_DIR = Path(__file__).resolve().parent.parent
_not_in_file = environment.read_file(os.environ)
_env = environment.load(os.environ)

# --- Brokoli's own ------------------------------------------------------------------------------------------------
HOME: Path = _env["BROKOLI_HOME"]
ARTIFACTS: Path = _env["BROKOLI_ARTIFACTS"]
DATA_DIRS: tuple[Path, ...] = _env["BROKOLI_DATA_DIRS"]
BIND: str = _env["BROKOLI_BIND"]
TRUSTED_PROXIES: Trusted = _env["BROKOLI_TRUSTED_PROXIES"]
HTTPS: bool = _env["BROKOLI_HTTPS"]
RATE_LIMIT: int = _env["BROKOLI_RATE_LIMIT"]
RATE_LIMIT_STRANGERS: int = _env["BROKOLI_RATE_LIMIT_STRANGERS"]
RATE_LIMIT_GUESSES: int = _env["BROKOLI_RATE_LIMIT_GUESSES"]
WORKER_CONCURRENCY: int = _env["BROKOLI_WORKER_CONCURRENCY"]
NODE_CONCURRENCY: int = _env["BROKOLI_NODE_CONCURRENCY"]
POOL_SLOTS: int = _env["BROKOLI_POOL_SLOTS"]
MEMORY_LIMIT: int = _env["BROKOLI_MEMORY_LIMIT"]
SPILL_LIMIT: int | None = _env["BROKOLI_SPILL_LIMIT"]
ENGINE_THREADS: int = _env["BROKOLI_THREADS"] or os.cpu_count() or 1
LEASE_SECONDS: int = _env["BROKOLI_LEASE_SECONDS"]
MAX_DEATHS: int = _env["BROKOLI_MAX_DEATHS"]
DRAIN_SECONDS: int = _env["BROKOLI_DRAIN_SECONDS"]
CODE_MAX_MEMORY: int = _env["BROKOLI_CODE_MAX_MEMORY"]
CODE_SANDBOX: str = _env["BROKOLI_CODE_SANDBOX"]
CODE_PATHS: tuple[Path, ...] = _env["BROKOLI_CODE_PATHS"]
DBT: Path | None = _env["BROKOLI_DBT"]
PYTHON_PATHS: tuple[Path, ...] = _env["BROKOLI_PYTHON_PATHS"]
DISABLED_NODE_TYPES: tuple[str, ...] = _env["BROKOLI_DISABLED_NODE_TYPES"]
ALLOWED_NETWORKS: Allowed = _env["BROKOLI_ALLOWED_NETWORKS"]
SECRETS_DIR: Path = _env["BROKOLI_SECRETS_DIR"]
RETENTION_DAYS: int = _env["BROKOLI_RETENTION_DAYS"]
AUDIT_DAYS: int = _env["BROKOLI_AUDIT_DAYS"]
MAX_SOCKETS: int = _env["BROKOLI_MAX_SOCKETS"]
MAX_SOCKETS_PER_USER: int = _env["BROKOLI_MAX_SOCKETS_PER_USER"]
REDIS_URL: str = _env["BROKOLI_REDIS_URL"]
TRACES_ENDPOINT: str = _env["OTEL_EXPORTER_OTLP_ENDPOINT"]
LOGIN_HOURS: int = _env["BROKOLI_LOGIN_HOURS"]
METRICS_TOKEN: str = _env["BROKOLI_METRICS_TOKEN"]
MAX_BODY_BYTES = 1024 * 1024
MAX_PIPELINE_BYTES = 5 * 1024 * 1024

for _name, _folder in (("BROKOLI_HOME", HOME), ("BROKOLI_ARTIFACTS", ARTIFACTS)):
    try:
        _folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as _error:
        raise ImproperlyConfigured(f"{_name}: the folder {_folder} cannot be made ({_error.strerror}).") from _error
    if not os.access(_folder, os.R_OK | os.W_OK | os.X_OK):
        raise ImproperlyConfigured(f"{_name}: the folder {_folder} cannot be read and written by this account.")

# --- Django -------------------------------------------------------------------------------------------------------
DEBUG: bool = _env["BROKOLI_DEBUG"]
SECRET_KEY = secret_key(_env["BROKOLI_SECRET_KEY"], HOME)
KEYRING: Keyring = keyring(_env["BROKOLI_ENCRYPTION_KEYS"], HOME)
ALLOWED_HOSTS = list(_env["BROKOLI_ALLOWED_HOSTS"])
CSRF_TRUSTED_ORIGINS = list(_env["BROKOLI_TRUSTED_ORIGINS"])
ROOT_URLCONF = "brokoli_site.urls"
ASGI_APPLICATION = "brokoli_site.asgi.application"
APPEND_SLASH = False
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_PIPELINE_BYTES
DATA_UPLOAD_MAX_NUMBER_FILES = 0  # no form takes one

# --- what browsers are told, and TLS --------------------------------------------------------------------------------
# The prefix `__Host-` is the browser's promise: this cookie was set by this very host, over TLS, for all of it.
_COOKIES = "__Host-" if HTTPS else ""
SESSION_COOKIE_NAME = f"{_COOKIES}sessionid"
CSRF_COOKIE_NAME = f"{_COOKIES}csrftoken"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True  # a page of ours has the token in it
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if HTTPS else 0
# Probes come from the machine itself, by address, and tell strangers one word.
SECURE_REDIRECT_EXEMPT = [r"^(livez|readyz|health|metrics)$"]
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {"DIRECTIVES": browser_policies.PAGES | ({"upgrade-insecure-requests": True} if HTTPS else {})}
# HSTS for all names below this one (W005) and a place in the browsers' own lists (W021) are for the owner of the domain to decide.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"] if HTTPS else []

# `runs` stands before `channels`, whose `runworker` command ours replaces.
INSTALLED_APPS = [
    "runs",
    "pipelines",
    "daphne",
    "channels",
    "system",  # before `auth`, two of whose commands it replaces
    "accounts.admin_config.BrokoliAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "accounts",  # after `auth`, whose admin it replaces, and all that have rights, which its roles hold
    "axes",
    "django_crontab",
    "django_filters",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
]

MIDDLEWARE = [
    "brokoli_site.common.request_ids.RequestIdMiddleware",
    "brokoli_site.common.audit.AuditMiddleware",
    "brokoli_site.common.tracing.TracingMiddleware",
    "system.http_metrics.HttpMetricsMiddleware",
    "brokoli_site.common.browser_policies.BrowserPoliciesMiddleware",
    "brokoli_site.common.https.HttpsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "system.probes.ProbesMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "brokoli_site.common.local_mode.LocalModeMiddleware",
    "brokoli_site.common.rate_limits.RateLimitsMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",  # last, because it answers for the view
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

AUTH_PASSWORD_VALIDATORS: list[dict[str, Any]] = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
    {"NAME": "accounts.passwords.EndsTokens"},
]
AUTHENTICATION_BACKENDS = ["accounts.backends.GuardedBackend"]
LOGIN_URL, LOGIN_REDIRECT_URL = "/login", "/"
SESSION_COOKIE_AGE = LOGIN_HOURS * 3600
SESSION_ENGINE = "accounts.sessions"

# Guessers of passwords: see `accounts/lockout.py`.
AXES_HANDLER = "accounts.lockout.Guard"
AXES_LOCKOUT_CALLABLE = "accounts.lockout.locked_out"
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_ENABLE_ADMIN = False  # a page of ours shows the counters, to those who manage users
AXES_VERBOSE = False


def _database(config: dict[str, Any]) -> dict[str, Any]:
    """The connection for many processes: SQLite takes its write lock at BEGIN and waits; PostgreSQL checks idle connections."""
    if config["ENGINE"].endswith("sqlite3"):
        options = config.get("OPTIONS", {}) | {
            # A transaction that reads first and writes later cannot wait for the lock in WAL mode: it fails at once
            # with SQLITE_BUSY. Taking the lock at BEGIN makes every writer queue for `timeout` seconds instead.
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            # FULL: a run that was accepted survives a power cut, not only a crash of the process.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA mmap_size=134217728; PRAGMA cache_size=-32000;",
        }
        # In-memory tests would hide every lock, so the test database is a file too.
        return config | {"OPTIONS": options, "CONN_MAX_AGE": None, "TEST": {"NAME": str(Path(config["NAME"]).parent / "test.sqlite3")}}
    # A server that falls silent (its machine is gone, a cable is cut) is an error within a lease, not after the quarter of an hour
    # that the system would wait. What the URL says (`?sslmode=verify-full`) goes before.
    options = {"connect_timeout": 5, "application_name": "brokoli", "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
    # A process that is frozen in the middle of a transaction holds its rows: the server ends it, so that others can take its runs over.
    # No transaction of ours waits for anything but the database.
    options |= {"tcp_user_timeout": 10_000, "options": "-c idle_in_transaction_session_timeout=5s"} | config.get("OPTIONS", {})
    return config | {"OPTIONS": options, "CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True}


DATABASES = {"default": _database(_env["DATABASE_URL"])}
# Of the rate limits. Culling forgets those who have not been there for longest; 20,000 are about 8 MB.
CACHES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "counters": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "LOCATION": "counters",
        "OPTIONS": {"MAX_ENTRIES": 20_000, "CULL_FREQUENCY": 10},
    },
}
if REDIS_URL:
    CACHES["shared_counters"] = {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "brokoli",
        "OPTIONS": {"socket_timeout": 0.5, "socket_connect_timeout": 0.5},
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

# Without a server for it, mail is refused: see `runs.delivery`.
EMAIL_HOST, EMAIL_PORT = _env["BROKOLI_EMAIL_URL"].get("EMAIL_HOST", ""), _env["BROKOLI_EMAIL_URL"].get("EMAIL_PORT", 25)
EMAIL_HOST_USER = _env["BROKOLI_EMAIL_URL"].get("EMAIL_HOST_USER", "")
EMAIL_HOST_PASSWORD = _env["BROKOLI_EMAIL_URL"].get("EMAIL_HOST_PASSWORD", "")
EMAIL_USE_TLS, EMAIL_USE_SSL = _env["BROKOLI_EMAIL_URL"].get("EMAIL_USE_TLS", False), _env["BROKOLI_EMAIL_URL"].get("EMAIL_USE_SSL", False)
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL: str = _env["BROKOLI_EMAIL_FROM"]

OPENLINEAGE_URL: str = _env["OPENLINEAGE_URL"]
OPENLINEAGE_API_KEY: str = _env["OPENLINEAGE_API_KEY"]
OPENLINEAGE_NAMESPACE: str = _env["OPENLINEAGE_NAMESPACE"]

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = None
# Finders serve straight from the packages, so that a fresh machine needs no collectstatic.
WHITENOISE_USE_FINDERS = True

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "brokoli_site.common.local_mode.LocalModeAuthentication",
        "accounts.authentication.BearerAuthentication",
        "accounts.authentication.BasicAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["brokoli_site.common.permissions.RequiredPermission"],
    "DEFAULT_PARSER_CLASSES": ["brokoli_site.common.json.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["brokoli_site.common.json.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "brokoli_site.common.negotiation.AnyAcceptNegotiation",
    "URL_FORMAT_OVERRIDE": None,  # `?format=` is a parameter of our own where a call has formats
    "EXCEPTION_HANDLER": "brokoli_site.common.problems.exception_handler",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}

SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "Brokoli",
    "DESCRIPTION": "Self-hosted orchestrator for data pipelines.",
    "VERSION": VERSION,
    "OAS_VERSION": "3.1.1",
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "brokoli_site.common.openapi.plain_nulls"],
    "ENUM_NAME_OVERRIDES": {
        "RunStatus": "runs.api.serializers.RUN_STATUSES",
        "NodeStatus": "runs.api.serializers.NODE_STATUSES",
        "TokenKind": "accounts.models.ApiToken.Kind",
        "BackfillStatus": "runs.api.serializers.BACKFILL_STATUSES",
        "ConnectionType": "pipelines.connection_types.NAMES",
        "VariableType": "pipelines.vault.VARIABLE_TYPES",
    },
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["brokoli_site.common.permissions.RequiredPermission"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

# --- the system's cron, for those who let it look at the clock: see `system/crontab.py` -----------------------------
SCHEDULER: str = _env["BROKOLI_SCHEDULER"]
ENV_FILE: Path | None = _env["BROKOLI_ENV_FILE"]
# cron mails whatever a job prints, hence the verbosity, and the level below. Lines of five fields, because django-crontab refuses `@daily`;
# they depend on no other setting, so that one that was installed means the same tomorrow.
CRONJOBS: list[tuple[str, str, list[str], dict[str, int]]] = [
    ("* * * * *", "django.core.management.call_command", ["enqueue_due_runs"], {"verbosity": 0}),
    ("30 3 * * *", "django.core.management.call_command", ["purge_runs", "--retention"], {"verbosity": 0}),
]
CRONTAB_EXECUTABLE = shutil.which("crontab") or "/usr/bin/crontab"
CRONTAB_DJANGO_MANAGE_PATH = str(BASE_DIR / "manage.py")
# Whose lines they are, should one account have several installations.
CRONTAB_COMMENT = f"brokoli {hashlib.sha256(str(HOME).encode()).hexdigest()[:8]}"
# cron starts its jobs with an environment of its own. The file says the rest, so that no secret stands in a line.
CRONTAB_COMMAND_PREFIX = f"BROKOLI_HOME={HOME} BROKOLI_LOG_LEVEL=WARNING" + (f" {environment.ENV_FILE}={ENV_FILE}" if ENV_FILE else "")
UNKNOWN_TO_CRON = tuple(name for name in _not_in_file if name not in ("BROKOLI_HOME", "BROKOLI_LOG_LEVEL", "BROKOLI_SCHEDULER", environment.ENV_FILE))

LOGGING = logs.configure(_env["BROKOLI_LOG_LEVEL"], _env["BROKOLI_LOG_FORMAT"])
