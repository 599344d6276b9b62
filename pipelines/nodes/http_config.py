"""What the configs of the nodes that make HTTP requests have in common."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

from pydantic import Field, field_validator

from brokoli_site.common import outbound
from pipelines import references
from pipelines.nodes.base import NodeConfig
from pipelines.problems import Problem
from pipelines.spec import NodeSpec
from pipelines.web import headers as header_rules
from pipelines.web import targets

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


class HttpNodeConfig(NodeConfig):
    """Where requests go, and with which credentials."""

    headers: dict[str, str] = Field(default_factory=dict, description="Headers of every request. Credentials belong into a connection.")
    conn_id: str = Field("", description="A connection of type http: its host is the start of the address, its credentials go along.")
    auth_user: str = Field("", description="User of Basic authentication, without a connection.")
    auth_password: str = Field("", description="Its password: a reference such as ${secret.NAME}.", repr=False)
    request_timeout: float = Field(300, gt=0, le=86_400, description="Seconds that one request may take, with its whole answer.")

    @field_validator("headers", mode="before")
    @classmethod
    def _texts(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        return {name: str(one) if isinstance(one, int | float) and not isinstance(one, bool) else one for name, one in value.items()}

    @field_validator("headers")
    @classmethod
    def _known_headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if fault := header_rules.fault(name, "" if references.is_unresolved(text) else text):
                raise ValueError(fault)
        return value


class ApiNodeConfig(HttpNodeConfig):
    """Of the nodes whose documents say the `method`: one of `methods`, the first when they leave it empty."""

    methods: ClassVar[tuple[str, ...]] = METHODS

    @field_validator("method", mode="before", check_fields=False)
    @classmethod
    def _in_capitals(cls, value: object) -> object:
        return (value.strip().upper() if isinstance(value, str) else value) or cls.methods[0]

    @field_validator("method", check_fields=False)
    @classmethod
    def _known_method(cls, value: str) -> str:
        if value not in cls.methods:
            raise ValueError(f"must be one of {', '.join(cls.methods)}")
        return value


def address_problems(node: NodeSpec, config: HttpNodeConfig, key: str, url: str) -> Iterator[Problem]:
    """What can be said against the address under `key` before the run."""
    guarded = bool(config.auth_user) or any(name.lower() not in outbound.HARMLESS_HEADERS for name in config.headers)
    if guarded and not config.conn_id and (fault := targets.param_fault(url)):
        yield Problem(fault, node.id, key)
    elif not config.conn_id and not url.strip():
        yield Problem("is missing: the address to ask, or a connection in `conn_id`", node.id, key)
    elif not config.conn_id and not references.is_unresolved(url) and (fault := outbound.check_url(url)):
        yield Problem(fault, node.id, key)


def secret_problems(node: NodeSpec, config: HttpNodeConfig) -> Iterator[Problem]:
    """A warning for a password that stands in the document, where everybody reads it who may see the pipeline."""
    password = config.auth_password
    if password and not any(references.find(password)):
        message = "stands in the pipeline as it is, for all who may see it; use ${secret.NAME} or a connection"
        yield Problem(message, node.id, "auth_password", severity="warning")
