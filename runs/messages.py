"""One attempt to tell one receiver: what a webhook, Slack or a mail server is sent, and what its answer means. No database."""

import contextlib
import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import orjson
from django.conf import settings
from django.core.mail import EmailMessage

from brokoli_site.common import mail, outbound
from brokoli_site.common.addresses import AddressRefused, UnknownHost
from brokoli_site.common.errors import BrokoliError
from brokoli_site.common.outbound import Limits
from brokoli_site.common.time import human_duration
from pipelines.hooks import MOST_ADDRESSES, contained_param, is_mail_address, names_host, render
from pipelines.references import References, as_text
from pipelines.web.headers import is_header_value
from pipelines.web.requesting import may_succeed_later, retry_after_seconds
from runs.models import Notification

SECONDS = 10.0  # for one attempt, from the resolver to the answer
MOST_READ = 64 * 1024  # bytes of an answer, which nobody looks at


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an attempt went. `again`: it may succeed later, not before so many seconds. `reason` names no address, query or secret."""

    sent: bool = False
    again: bool = False
    reason: str = ""
    not_before_seconds: float = 0.0


class _Unusable(BrokoliError):
    """The hook cannot be used as it is."""

    code = "hook_unusable"


def send(notification: Notification) -> Verdict:
    """Tell the receiver once."""
    hook, payload = notification.hook, notification.payload
    run = payload.get("run") or {}
    references = References(run_id=run.get("id") or "", params=run.get("params") or {})
    try:
        if hook["kind"] == "email":
            return _mail(hook, payload, references)
        content, headers = _slack(hook, payload) if hook["kind"] == "slack" else _webhook(hook, payload, references)
        return _post(_address(references, hook["url"]), content, headers)
    except AddressRefused:
        return Verdict(reason="its host is off the public internet; if it is yours, name its network or the host in BROKOLI_ALLOWED_NETWORKS.")
    except UnknownHost:
        return Verdict(again=True, reason="its host is not known, or its name cannot be resolved now.")
    except BrokoliError as error:
        return Verdict(again=error.retryable, reason=error.message)


def sentence(payload: Mapping[str, Any]) -> str:
    """What happened, in a line."""
    name, run = payload["pipeline"]["name"], payload.get("run") or {}
    error = f": {run['error']}" if run.get("error") else ""
    match payload["event"]:
        case "on_start":
            return f"{name} started"
        case "on_success":
            return f"{name} succeeded in {human_duration(run.get('duration_ms') or 0)}"
        case "on_node_failure":
            node = payload["node"]
            return f"{name}: node {node['name']} failed: {node['error']}"
        case "on_sla_miss":
            sla = payload["sla"]
            return f"{name} missed its deadline of {sla['deadline']}: {sla['state']}"
    return f"{name} failed{error}"


def _values(payload: Mapping[str, Any]) -> dict[str, Any]:
    """What a message's `{{ … }}` may name."""
    run, node = payload.get("run") or {}, payload.get("node") or {}
    duration = run.get("duration_ms")
    return {
        "event": payload["event"],
        "pipeline": payload["pipeline"]["name"],
        "run_id": run.get("id"),
        "status": run.get("status"),
        "error": node.get("error") or run.get("error"),
        "rows": run.get("rows"),
        "duration": None if duration is None else human_duration(duration),
        "node": node.get("name"),
    }


def _text(references: References, text: str) -> str:
    return as_text(references.substitute(text))


def _address(references: References, url: str) -> str:
    """Where to post. A param's value stays where it stands: who may only run a pipeline must not choose where its headers go."""
    param = contained_param(url)
    if param is None:
        return _text(references, url)
    if not names_host(_text(references, url[:param])):
        raise _Unusable("a param is a part of the host of its url, or stands right behind it, and would make another host.")
    encoded = {name: quote(as_text(value), safe="").replace(".", "%2E") for name, value in references.params.items()}
    return _text(replace(references, params=encoded), url)


# --- webhooks and Slack -------------------------------------------------------------------------------------------


def _webhook(hook: Mapping[str, Any], payload: Mapping[str, Any], references: References) -> tuple[bytes, dict[str, str]]:
    extra = hook["extra"]
    message = {"message": render(extra["message"], _values(payload))} if "message" in extra else {}
    body = orjson.dumps({**payload, **message})
    headers = {name: _text(references, value) for name, value in extra.get("headers", {}).items()}
    for name, value in headers.items():
        if not is_header_value(value):
            raise _Unusable(f"the value of the header {name} is not a text on one line.")
    if "secret" in extra:
        secret = _text(references, extra["secret"])
        if not secret:
            raise _Unusable("its secret is empty.")
        headers |= signature(secret, body, round(time.time()))
    return body, headers | _names(payload)


def _slack(hook: Mapping[str, Any], payload: Mapping[str, Any]) -> tuple[bytes, dict[str, str]]:
    extra = hook["extra"]
    values = {name: _for_slack(as_text(value)) for name, value in _values(payload).items()}
    text = render(extra["message"], values) if "message" in extra else _for_slack(sentence(payload))
    channel = {"channel": extra["channel"]} if "channel" in extra else {}
    return orjson.dumps({"text": text, **channel}), _names(payload)


def _for_slack(text: str) -> str:
    """The three characters that mean something in Slack's texts: a name must not mention everybody."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _names(payload: Mapping[str, Any]) -> dict[str, str]:
    return {"Idempotency-Key": payload["id"], "X-Brokoli-Delivery": payload["id"], "X-Brokoli-Event": payload["event"]}


def signature(secret: str, body: bytes, timestamp: int) -> dict[str, str]:
    """Headers that prove who sent the body, and when: HMAC-SHA256 of `TIMESTAMP.BODY`."""
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return {"X-Brokoli-Timestamp": str(timestamp), "X-Brokoli-Signature": f"sha256={digest}"}


def _post(url: str, body: bytes, headers: Mapping[str, str]) -> Verdict:
    limits = Limits(seconds=SECONDS, allowed=settings.ALLOWED_NETWORKS)
    headers = {**headers, "Content-Type": "application/json", "Accept": "*/*"}
    with outbound.opened("POST", url, body=body, headers=headers, limits=limits) as answer:
        status, retry_after = answer.status, answer.headers.get("Retry-After", "")
        if 200 <= status < 300:
            # The receiver has it. How its answer goes on is of no concern, but some give up when nobody listens.
            with contextlib.suppress(BrokoliError):
                answer.read(MOST_READ)
            return Verdict(sent=True)
    if 300 <= status < 400:
        return Verdict(reason=f"it answered {status}, a redirect, and these are not followed; name the new address in the hook.")
    again = may_succeed_later(status)
    return Verdict(again=again, reason=f"it answered {status}.", not_before_seconds=retry_after_seconds(retry_after) if again else 0.0)


# --- mail ---------------------------------------------------------------------------------------------------------


def _mail(hook: Mapping[str, Any], payload: Mapping[str, Any], references: References) -> Verdict:
    if not settings.EMAIL_HOST:
        raise _Unusable("this server has no mail server; its operator can name one in BROKOLI_EMAIL_URL.")
    receivers = [part.strip() for part in _text(references, hook["url"]).split(",") if part.strip()]
    if not receivers or not all(is_mail_address(address) for address in receivers):
        raise _Unusable("what its references stand for is no email address.")
    if len(receivers) > MOST_ADDRESSES:
        raise _Unusable(f"its references stand for {len(receivers)} addresses; {MOST_ADDRESSES} are the most.")
    names = {"X-Brokoli-Delivery": payload["id"], "Message-ID": f"<{payload['id']}@brokoli>", "Auto-Submitted": "auto-generated"}
    message = EmailMessage(subject(payload), _mail_text(hook, payload), settings.DEFAULT_FROM_EMAIL, receivers, headers=names)
    outcome = mail.attempt(message)
    return Verdict(sent=outcome.sent, again=outcome.again, reason=outcome.reason)


def subject(payload: Mapping[str, Any]) -> str:
    """One line, whatever the names and the error hold."""
    return mail.one_line(f"[Brokoli] {sentence(payload)}")


def _mail_text(hook: Mapping[str, Any], payload: Mapping[str, Any]) -> str:
    values = _values(payload)
    if "message" in hook["extra"]:
        return render(hook["extra"]["message"], values)
    lines = [f"{name.replace('_', ' ').capitalize()}: {as_text(value)}" for name, value in values.items() if value not in (None, "")]
    return sentence(payload) + "\n\n" + "\n".join(lines) + "\n"
