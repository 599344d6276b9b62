"""`notify`: tells people or programs, and passes its input through."""

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import orjson
from django.conf import settings
from pydantic import Field, field_validator, model_validator

from brokoli_site.common import mail
from brokoli_site.common.errors import NodeError, TransientNodeError
from brokoli_site.common.outbound import Answer, Client, Limits
from brokoli_site.common.time import human_duration
from pipelines.hooks import LONGEST_CHANNEL, LONGEST_MESSAGE, MOST_ADDRESSES, TEMPLATE_NAMES, is_mail_address, render
from pipelines.nodes.base import (
    Analysis,
    Category,
    DryResult,
    NodeConfig,
    NodeContext,
    NodeType,
    NotExecuted,
    PassThrough,
    Ports,
    Result,
    Schema,
    Written,
)
from pipelines.nodes.http_config import HttpNodeConfig, address_problems, secret_problems
from pipelines.problems import Problem
from pipelines.references import as_text, is_unresolved
from pipelines.spec import NodeSpec
from pipelines.web import targets
from pipelines.web.requesting import Policy, Requester, RequestFailed

SECONDS = 30.0  # for one attempt
_MOST_READ = 64 * 1024
_DEFAULT_RETRIES = 3
_DEFAULT = "{{ pipeline }}: {{ node }} was reached with {{ rows }} rows"
_PLACE = re.compile(r"\{\{\s*([A-Za-z_][\w.]*)\s*\}\}")


class NotifyConfig(HttpNodeConfig):
    """Config of `notify`."""

    notify_type: Literal["webhook", "slack", "email"] = Field("webhook", description="Whom to tell: a webhook, Slack, or people by email.")
    webhook_url: str = Field("", description="webhook, slack: the address to post to; with a connection, the path below its host.")
    message: str = Field(
        "", max_length=LONGEST_MESSAGE, description="What to say; `{{ pipeline }}`, `{{ rows }}`, `{{ node }}` and others are filled in."
    )
    channel: str = Field("", max_length=LONGEST_CHANNEL, description="slack: the channel.")
    to: tuple[str, ...] = Field((), description="email: the addresses, as a list or separated by commas.")
    subject: str = Field("", max_length=LONGEST_CHANNEL, description="email: the subject. Empty: the first line of the message.")

    @field_validator("notify_type", mode="before")
    @classmethod
    def _kind(cls, value: object) -> object:
        return value.strip().lower() or "webhook" if isinstance(value, str) else value

    @field_validator("to", mode="before")
    @classmethod
    def _addresses(cls, value: object) -> object:
        return [part.strip() for part in re.split("[,;]", value) if part.strip()] if isinstance(value, str) else value

    @field_validator("to")
    @classmethod
    def _known_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) > MOST_ADDRESSES:
            raise ValueError(f"names {len(value)} addresses; {MOST_ADDRESSES} are the most")
        for address in value:
            if not is_unresolved(address) and not is_mail_address(address):
                raise ValueError(f"'{address[:60]}' is not an email address")
        return value

    @model_validator(mode="after")
    def _complete(self) -> "NotifyConfig":
        if self.notify_type == "email" and not self.to:
            raise ValueError("an email needs addresses in `to`")
        return self


class Notify(NodeType):
    name: ClassVar[str] = "notify"
    label: ClassVar[str] = "Notify"
    category: ClassVar[Category] = "control"
    help: ClassVar[str] = "Tells a webhook, Slack or people by email, and passes its input through."
    ports: ClassVar[Ports] = Ports(0, 1)
    Config: ClassVar[type[NodeConfig]] = NotifyConfig
    effects: ClassVar[bool] = True
    trusted: ClassVar[bool] = True

    def analyse(self, node: NodeSpec, config: Any, inputs: Sequence[Schema | None]) -> Analysis:
        found: NotifyConfig = config
        problems = list(secret_problems(node, found))
        if found.notify_type != "email":
            problems += address_problems(node, found, "webhook_url", found.webhook_url)
        unknown = sorted({name for name in _PLACE.findall(found.message) if name not in TEMPLATE_NAMES})
        if unknown:
            message = f"names {', '.join(unknown)}; known are {', '.join(TEMPLATE_NAMES)}. The rest stays as it is."
            problems.append(Problem(message, node.id, "message", severity="warning"))
        return Analysis(tuple(problems), inputs[0] if inputs else None)

    def run(self, context: NodeContext) -> Result:
        _tell_by_mail(context) if context.config.notify_type == "email" else _post(context)
        return PassThrough() if context.inputs else Written(0)

    def dry_run(self, context: NodeContext) -> DryResult:
        """With an input it passes that through, and says what it would have sent."""
        config: NotifyConfig = context.config
        what = f"A dry run tells nobody. It would send by {config.notify_type}: {_message(context)}"
        if not context.inputs:
            return NotExecuted(what)
        context.log.info(what)
        return PassThrough()


def values(context: NodeContext) -> dict[str, Any]:
    """What a message's `{{ … }}` may name: the same names as of a pipeline's hooks. The run is under way, so that is its status."""
    started = context.run.started_at
    return {
        "event": "notify",
        "pipeline": context.run.pipeline_name,
        "run_id": context.run.run_id,
        "status": "running",
        "error": None,
        "rows": context.inputs[0].row_count if context.inputs else 0,
        "duration": human_duration(round((time.time() - started.timestamp()) * 1000)) if started else None,
        "node": context.node.name,
    }


def _message(context: NodeContext) -> str:
    return render(context.config.message or _DEFAULT, values(context))


def key(context: NodeContext) -> str:
    """The same for every attempt, so that a receiver can tell a repeat."""
    return hashlib.sha256(f"{context.run.origin_id}\0{context.node.id}".encode()).hexdigest()[:40]


def _post(context: NodeContext) -> None:
    config: NotifyConfig = context.config
    target = targets.target(context, config, "webhook_url", config.webhook_url)
    content = orjson.dumps(_slack(context) if config.notify_type == "slack" else _payload(context))
    headers = {"Content-Type": "application/json", "Accept": "*/*", **target.headers, "Idempotency-Key": key(context), "X-Brokoli-Event": "notify"}
    # The address of a webhook is a secret by itself (Slack's are), so only its host is told.
    what = f"Telling {config.notify_type} {targets.origin(target.url)}"
    with Client(Limits(min(SECONDS, config.request_timeout), 0, settings.ALLOWED_NETWORKS)) as client:
        try:
            context.stop.check()
            status = Requester(context, client, _policy(context)).ask("POST", target.url, headers, _status, body=content, what=what)
        except RequestFailed as failed:
            unsure = " It may have arrived all the same; another attempt has the same Idempotency-Key." if failed.refusal.unsure else ""
            raise type(failed.refusal.error())(failed.refusal.sentence + unsure) from None
    context.log.info(f"Told {config.notify_type} {targets.origin(target.url)} ({status}).")


def _policy(context: NodeContext) -> Policy:
    of_node = context.node.retry
    return Policy(of_node.max_retries or _DEFAULT_RETRIES, of_node.delay_ms / 1000, of_node.backoff == "exponential")


def _status(answer: Answer) -> int:
    return answer.status


def _payload(context: NodeContext) -> Mapping[str, Any]:
    found = values(context)
    return {
        "event": "notify",
        "pipeline": found["pipeline"],
        "pipeline_id": context.run.pipeline_id,
        "run_id": found["run_id"],
        "node": {"id": context.node.id, "name": context.node.name},
        "message": _message(context),
        "row_count": found["rows"],
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _slack(context: NodeContext) -> Mapping[str, Any]:
    """A value that is filled in must not mention everybody; what the author wrote may."""
    escaped = {name: as_text(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for name, value in values(context).items()}
    text = render(context.config.message or _DEFAULT, escaped)
    return {"text": text, **({"channel": context.config.channel} if context.config.channel else {})}


def _tell_by_mail(context: NodeContext) -> None:
    config: NotifyConfig = context.config
    if wrong := [address for address in config.to if not is_mail_address(address)]:
        raise NodeError(f"Field 'to': '{wrong[0][:60]}' is not an email address.")
    text = _message(context)
    subject = render(config.subject, values(context)) or f"[Brokoli] {text.splitlines()[0] if text.strip() else context.run.pipeline_name}"
    names = {"Message-ID": f"<{key(context)}@brokoli>", "Auto-Submitted": "auto-generated"}
    policy = _policy(context)
    for attempt in range(1, policy.retries + 2):
        context.stop.check()
        outcome = mail.send(mail.one_line(subject), text, config.to, names, context.stop.on_stop)
        context.stop.check()
        if outcome.sent:
            context.log.info(f"Told {len(config.to)} address{'' if len(config.to) == 1 else 'es'} by email.")
            return
        unsure = " It may have arrived all the same." if outcome.unsure else ""
        if not outcome.again or attempt > policy.retries:
            raise (TransientNodeError if outcome.again else NodeError)(f"The email could not be sent: {outcome.reason}{unsure}")
        context.log.warning(f"The email could not be sent: {outcome.reason}{unsure} Trying again ({attempt} of {policy.retries}).")
        context.stop.wait(policy.delay(attempt))
