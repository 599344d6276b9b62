"""Whom a pipeline tells of what happens to its runs: `hooks` of a document. Pure.

hooks:
  on_failure: https://hooks.example.org/brokoli
  on_success: [{type: email, url: "ops@example.org, data@example.org"}, {type: slack, url: "${env.BROKOLI_VAR_SLACK}"}]
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from brokoli_site.common import outbound
from pipelines import references
from pipelines.problems import Problem, broken, kind_of, shortened
from pipelines.web import headers as header_rules
from pipelines.web.headers import is_header_name, is_header_value

HookKind = Literal["webhook", "slack", "email"]
KINDS = ("webhook", "slack", "email")
EVENTS = ("on_start", "on_success", "on_failure", "on_node_failure", "on_sla_miss")
# What `{{ … }}` of a message may name.
TEMPLATE_NAMES = ("event", "pipeline", "run_id", "status", "error", "rows", "duration", "node")
MOST_HOOKS = 20
MOST_ADDRESSES = 20
MOST_HEADERS = 20
LONGEST_URL = 2_000
LONGEST_MESSAGE = 4_000
LONGEST_CHANNEL = 200
MOST_CHARACTERS = 64_000  # of all hooks together: each run and each notification keeps a copy

_EXTRAS = {"webhook": ("headers", "message", "secret"), "slack": ("channel", "message"), "email": ("to", "message")}
_OUR_HEADERS = header_rules.OURS | {"content-type"}
_TEMPLATE = re.compile(r"\{\{\s*([A-Za-z_][\w.]*)\s*\}\}")


@dataclass(frozen=True, slots=True)
class Hook:
    """One receiver of one event. `url` is where to post, or for email who receives it; references in it are resolved when it is sent."""

    kind: HookKind
    url: str
    extra: Mapping[str, Any] = field(default_factory=dict)


def stored(hook: Hook) -> dict[str, Any]:
    """The hook as JSON, as runs and notifications keep it."""
    return {"kind": hook.kind, "url": hook.url, "extra": dict(hook.extra)}


def receiver(hook: Mapping[str, Any]) -> str:
    """Who a stored hook tells, for people: mail addresses, or the host of a URL. The rest of a URL may be a secret."""
    url = str(hook["url"])
    if hook["kind"] == "email":
        return url
    match = re.match(r"https?://([^/?#\s]*)", url, re.IGNORECASE)
    if match:
        return str(match[1]).rpartition("@")[2]
    named = next(references.find(url), None)
    return named.text if named else "its receiver"


def render(template: str, values: Mapping[str, Any]) -> str:
    """`template` with each `{{ name }}` that `values` has replaced; others stay as they are."""
    return _TEMPLATE.sub(lambda match: references.as_text(values[match[1]]) if match[1] in values else match[0], template)


def read(document: Mapping[str, Any], problems: list[Problem]) -> dict[str, tuple[Hook, ...]]:
    """The enabled hooks by event; what cannot be read is added to `problems`."""
    found = document.get("hooks")
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        problems.append(broken(f"'hooks' must be an object of events, not {kind_of(found)}.", "/hooks", field="hooks"))
        return {}
    given = list(_given(found, problems))
    if len(given) > MOST_HOOKS:
        problems.append(broken(f"A pipeline has at most {MOST_HOOKS} hooks; this one has {len(given)}.", "/hooks", field="hooks"))
        return {}
    hooks: dict[str, tuple[Hook, ...]] = {}
    for event, pointer, raw in given:
        hook = _Reader(pointer, problems).hook(raw)
        if hook is not None:
            hooks[event] = (*hooks.get(event, ()), hook)
    size = sum(len(json.dumps(stored(hook))) for found in hooks.values() for hook in found)
    if size > MOST_CHARACTERS:
        message = f"The hooks of a pipeline have at most {MOST_CHARACTERS:,} characters together; these have {size:,}."
        problems.append(broken(message, "/hooks", field="hooks"))
        return {}
    return hooks


def warnings(document: Mapping[str, Any], *, mail: bool) -> Iterator[Problem]:
    """What is likely a mistake in hooks that can be read. `mail`: the server has a mail server to send through."""
    found = document.get("hooks")
    for event, pointer, raw in _given(found, []) if isinstance(found, Mapping) else ():
        if not isinstance(raw, Mapping) or not isinstance(extra := raw.get("extra") or {}, Mapping):
            continue
        kind = str(raw.get("type") or "webhook").lower()
        for name in extra:
            if kind in _EXTRAS and name not in _EXTRAS[kind]:
                message = f"'{shortened(str(name))}' of a {kind} hook of '{event}' is kept, but this server does nothing with it."
                yield Problem(message, field="hooks", pointer=f"{pointer}/extra", severity="warning")
        unknown = {name for name in _TEMPLATE.findall(str(extra.get("message", ""))) if name not in TEMPLATE_NAMES}
        if unknown:
            message = f"A message of '{event}' names {', '.join(sorted(unknown))}; known are {', '.join(TEMPLATE_NAMES)}. The rest stays as it is."
            yield Problem(message, field="hooks", pointer=f"{pointer}/extra/message", severity="warning")
        if kind == "email" and not mail:
            message = f"The hook of '{event}' sends mail, and this server has no mail server: set BROKOLI_EMAIL_URL."
            yield Problem(message, field="hooks", pointer=pointer, severity="warning")


def _given(found: Mapping[str, Any], problems: list[Problem]) -> Iterator[tuple[str, str, Any]]:
    """Event, pointer and text of each hook."""
    for event, hooks in found.items():
        pointer = f"/hooks/{event}"
        if event not in EVENTS:
            message = f"There is no event '{shortened(str(event))}'; known are {', '.join(EVENTS)}."
            problems.append(broken(message, "/hooks", field="hooks"))
        elif isinstance(hooks, list):
            yield from ((event, f"{pointer}/{index}", hook) for index, hook in enumerate(hooks))
        elif hooks is not None and hooks != "":
            yield event, pointer, hooks


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one hook; what is wrong with it is added to `problems`."""

    pointer: str
    problems: list[Problem]

    def _wrong(self, message: str, part: str = "") -> None:
        self.problems.append(broken(message, self.pointer + part, field="hooks"))

    def hook(self, raw: Any) -> Hook | None:
        """None when it is disabled, or wrong."""
        before = len(self.problems)
        if isinstance(raw, str):
            raw = {"url": raw}
        if not isinstance(raw, Mapping):
            self._wrong(f"A hook is a URL or an object with type, url, enabled and extra, not {kind_of(raw)}.")
            return None
        for name in raw:
            if name not in ("type", "url", "enabled", "extra"):
                self._wrong(f"A hook has no '{shortened(str(name))}'; it has type, url, enabled and extra.")
        kind, enabled, extra = raw.get("type") or "webhook", raw.get("enabled", True), raw.get("extra")
        if not isinstance(kind, str) or kind.lower() not in KINDS:
            self._wrong(f"The type of a hook is one of {', '.join(KINDS)}.", "/type")
            return None
        if not isinstance(enabled, bool):
            self._wrong("'enabled' of a hook must be true or false.", "/enabled")
        if extra is not None and not isinstance(extra, Mapping):
            self._wrong(f"'extra' of a hook must be an object, not {kind_of(extra)}.", "/extra")
        extra = extra if isinstance(extra, Mapping) else {}
        kind = kind.lower()
        url = self._addresses(raw.get("url"), extra.get("to")) if kind == "email" else self._url(raw.get("url"))
        kept = self._extra(kind, extra)
        return Hook(cast(HookKind, kind), url, kept) if enabled is True and len(self.problems) == before else None

    def _url(self, url: Any) -> str:
        if not isinstance(url, str) or not url.strip() or len(url) > LONGEST_URL:
            self._wrong(f"A hook needs a url: a text of 1 to {LONGEST_URL} characters.", "/url")
            return ""
        address: str = url.strip()
        if not self._may_refer(address, "/url"):
            return ""
        found = list(references.find(address))
        if found and found[0].start == 0 and not found[0].escaped:
            return address  # all that can be said before it is known
        param = contained_param(address)
        if fault := outbound.check_url(_with_placeholders(address)):
            self._wrong(f"The url of a hook is not usable. {fault}", "/url")
        elif param and not names_host(_with_placeholders(address[:param])):
            self._wrong("A param cannot be a part of the host of a hook's url, or stand right behind it: it would make another host.", "/url")
        return address

    def _may_refer(self, text: str, part: str, kinds: tuple[str, ...] = ("env", "param")) -> bool:
        """Whether every reference in `text` is one of these kinds, and one that can be."""
        for reference in references.find(text):
            fault = references.problem_with(reference)
            if fault or (reference.kind not in kinds and not reference.escaped):
                allowed = " or ".join({"env": "${env.BROKOLI_VAR_NAME}", "param": "${param.NAME}"}[kind] for kind in kinds)
                self._wrong(fault + "." if fault else f"{shortened(reference.text)} cannot stand here; use {allowed}.", part)
                return False
        return True

    def _addresses(self, url: Any, to: Any) -> str:
        """Mail addresses, separated by commas."""
        texts = [text for given in (url, to) for text in (given if isinstance(given, list) else [given]) if text is not None]
        if not all(isinstance(text, str) for text in texts) or sum(map(len, texts)) > LONGEST_URL:
            self._wrong(f"An email hook's url is one or more addresses, separated by commas: at most {LONGEST_URL} characters.", "/url")
            return ""
        addresses = [part.strip() for text in texts for part in re.split("[,;]", text) if part.strip()]
        if not 1 <= len(addresses) <= MOST_ADDRESSES:
            self._wrong(f"An email hook needs 1 to {MOST_ADDRESSES} addresses as its url.", "/url")
        for address in addresses:
            if self._may_refer(address, "/url") and not any(references.find(address)) and not is_mail_address(address):
                self._wrong(f"'{shortened(address)}' is not an email address.", "/url")
        return ", ".join(addresses)

    def _extra(self, kind: str, extra: Mapping[str, Any]) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for name in _EXTRAS[kind]:
            value = extra.get(name)
            if value is None or value == "" or name == "to":
                continue
            if name == "headers":
                kept[name] = self._headers(value)
            elif name == "secret":
                kept[name] = self._secret(value)
            else:
                most = LONGEST_CHANNEL if name == "channel" else LONGEST_MESSAGE
                if not isinstance(value, str) or len(value) > most:
                    self._wrong(f"'{name}' of a hook must be a text of at most {most} characters.", f"/extra/{name}")
                kept[name] = value
        return kept

    def _headers(self, headers: Any) -> dict[str, str]:
        if not isinstance(headers, Mapping) or len(headers) > MOST_HEADERS:
            self._wrong(f"'headers' of a hook must be an object of at most {MOST_HEADERS} texts.", "/extra/headers")
            return {}
        for name, value in headers.items():
            part = "/extra/headers"
            if not isinstance(name, str) or not is_header_name(name):
                self._wrong(f"'{shortened(str(name))}' is not the name of a header.", part)
            elif name.lower() in _OUR_HEADERS or name.lower().startswith("x-brokoli-"):
                self._wrong(f"The header {name} is the server's own and cannot be set.", part)
            elif not isinstance(value, str) or not is_header_value(value):
                self._wrong(f"The header {name} must be a text on one line, of at most {LONGEST_MESSAGE} Latin characters.", part)
            else:
                self._may_refer(value, part)
        return dict(headers)

    def _secret(self, secret: Any) -> str:
        """Only a reference: whoever may see the pipeline sees its document."""
        found = list(references.find(secret)) if isinstance(secret, str) else []
        if len(found) != 1 or found[0].text != secret or found[0].escaped:
            self._wrong("'secret' of a hook must be a reference, ${env.BROKOLI_VAR_NAME}, so that the secret does not stand here.", "/extra/secret")
            return ""
        self._may_refer(secret, "/extra/secret", ("env",))
        return str(secret)


def _with_placeholders(text: str) -> str:
    parts, done = [], 0
    for reference in references.find(text):
        parts += [text[done : reference.start], "1"]
        done = reference.end
    return "".join(parts) + text[done:]


def contained_param(url: str) -> int | None:
    """Where the first param of a URL stands, unless it is meant to be the URL or its host: `${param.url}`, `https://${param.host}/x`."""
    found = next((found for found in references.find(url) if found.kind == "param" and not found.escaped), None)
    if found is None or found.start == 0:
        return None
    is_host = re.fullmatch(r"https?://", url[: found.start], re.IGNORECASE) and url[found.end : found.end + 1] in ("", "/", "?", "#", ":")
    return None if is_host else found.start


def names_host(start: str) -> bool:
    """Whether the start of a URL holds all of its host: what follows cannot be a part of it."""
    return re.match(r"https?://[^/?#\\\s]+[/?#]", start, re.IGNORECASE) is not None


def is_mail_address(text: str) -> bool:
    """Whether `text` is one bare mail address."""
    try:
        validate_email(text)
    except ValidationError:
        return False
    return True
