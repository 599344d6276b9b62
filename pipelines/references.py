"""References to what is known when a node starts: `${param.x}`, `${run.id}`, `${run.date}`, `${run.started_at}`, `${env.BROKOLI_VAR_X}`.

`${var.x}` is a stored variable, a secret one too; `${secret.x}` is a secret one alone. See `vault.py`.

`${run.interval_start}` and `${run.interval_end}` delimit the stretch of time that a schedule's run is for. The SDK's forms mean
the same: `{{ params.x }}`, `{{ ds }}`, `{{ ds_nodash }}`, `{{ ts }}`, `{{ run_id }}`, `{{ data_interval_start }}` and
`{{ data_interval_end }}`. `$${` is a plain `${`.

In texts a reference is replaced by its value; a text that is nothing but one reference becomes the value itself, with its
type. In SQL a reference never becomes text of the statement: see `pipelines.expressions`.
"""

import datetime as dt
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from brokoli_site.common.errors import NodeError
from pipelines.vault import UnknownName, Vault

if TYPE_CHECKING:  # a spec's hooks hold references, and a node's base holds its spec
    from pipelines.nodes.base import RunFacts

Value = Any  # text, number, boolean or null; a JSON variable gives lists and objects too

# Only these reach a pipeline: the server's environment holds its secrets.
ENVIRONMENT_PREFIX = "BROKOLI_VAR_"

_PATTERN = re.compile(r"(?P<escape>\$)?\$\{(?P<name>[^{}]*)\}|\{\{\s*(?P<template>[A-Za-z_][\w.]*)\s*\}\}")
_TEMPLATES = {
    "ds": "run.date",
    "ds_nodash": "run.date_nodash",
    "run_id": "run.id",
    "ts": "run.started_at",
    "data_interval_start": "run.interval_start",
    "data_interval_end": "run.interval_end",
}
_SCHEME = re.compile(r"^\s*[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_RUN_NAMES = ("id", "date", "date_nodash", "started_at", "interval_start", "interval_end")
_NO_INTERVAL = "; only runs that a schedule or a backfill of its intervals made have one"
STORED = ("var", "secret")  # kinds that the vault answers


class UnknownReference(NodeError):
    """A reference names something that does not exist."""

    code = "unknown_reference"


@dataclass(frozen=True, slots=True)
class Reference:
    """One reference in a text: `kind` and `name` of `${kind.name}`; `start` and `end` delimit it. `escaped`: it stands for itself."""

    text: str
    kind: str
    name: str
    start: int
    end: int
    escaped: bool = False

    @property
    def plain(self) -> str:
        """What an escaped reference stands for."""
        return self.text[1:]


def find(text: str) -> Iterator[Reference]:
    """The references in `text`, in order."""
    for match in _PATTERN.finditer(text):
        escaped = match["escape"] is not None
        if match["template"] is not None:
            full = _template_name(match["template"])
            if full is None:
                continue  # `{{ pipeline }}` and the like are a notification's, not ours
        else:
            full = match["name"].strip()
        kind, _, name = full.partition(".")
        yield Reference(match[0], kind, name, match.start(), match.end(), escaped)


def is_unresolved(text: str) -> bool:
    """Whether a text of a config may hold references, so that what it will be is not known yet."""
    return "${" in text or "{{" in text


def param_in_host(address: str) -> bool:
    """Whether an address, as a document has it, leaves a part of its host (or what is before that) to a param."""
    start = re.split(r"[/?#\\]", _SCHEME.sub("", address), maxsplit=1)[0]
    return any(reference.kind == "param" and not reference.escaped for reference in find(start))


def names_secret(value: Any, vault: Vault) -> bool:
    """Whether any text in `value`, a part of a config as it is written, stands for a secret."""
    if isinstance(value, Mapping | list | tuple):
        return any(names_secret(inner, vault) for inner in (value.values() if isinstance(value, Mapping) else value))
    if not isinstance(value, str):
        return False
    stored = [vault.variables.get(one.name) for one in find(value) if one.kind in STORED and not one.escaped]
    return any(one is not None and one.is_secret for one in stored)


def _template_name(name: str) -> str | None:
    if name.startswith(("params.", "param.")):
        return "param." + name.partition(".")[2]
    return _TEMPLATES.get(name)


def problem_with(reference: Reference) -> str | None:
    """What can be said against a reference before the run: a sentence, or None."""
    if reference.escaped or (reference.kind in ("param", *STORED) and reference.name):
        return None
    if reference.kind == "run":
        return None if reference.name in _RUN_NAMES else f"{reference.text}: a run has {', '.join(_RUN_NAMES)}"
    if reference.kind == "env":
        is_open = reference.name.startswith(ENVIRONMENT_PREFIX) and len(reference.name) > len(ENVIRONMENT_PREFIX)
        return None if is_open else f"{reference.text}: only environment variables whose names start with {ENVIRONMENT_PREFIX} can be read"
    known = "${param.NAME}, ${var.NAME}, ${secret.NAME}, ${run.id}, ${run.date}, ${run.started_at}"
    return f"{reference.text} is unknown; use {known} or ${{env.{ENVIRONMENT_PREFIX}NAME}}"


@dataclass(frozen=True)
class References:
    """What the references of one run stand for."""

    run_id: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    date: dt.date | None = None
    started_at: dt.datetime | None = None
    interval_start: dt.datetime | None = None
    interval_end: dt.datetime | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    vault: Vault = field(default_factory=Vault)

    @classmethod
    def of(cls, facts: "RunFacts") -> "References":
        """A run without a logical date has that of its start, in UTC; a run that has not started, today's."""
        started_at = facts.started_at
        date = facts.logical_date or (started_at or dt.datetime.now(dt.UTC)).astimezone(dt.UTC).date()
        return cls(
            run_id=facts.run_id,
            params=facts.params,
            date=date,
            started_at=started_at,
            interval_start=facts.interval_start,
            interval_end=facts.interval_end,
            vault=facts.vault,
        )

    def value(self, reference: Reference) -> Value:
        """Errors: `UnknownReference` naming the reference."""
        if reference.escaped:
            return reference.plain
        problem = problem_with(reference)
        if problem is not None:
            raise UnknownReference(problem)
        match reference.kind:
            case "param":
                return self._param(reference)
            case "env":
                if reference.name not in self.environment:
                    raise UnknownReference(f"{reference.text}: the server's environment has no {reference.name}")
                return self.environment[reference.name]
            case "var" | "secret":
                return self._stored(reference)
        return self._of_run(reference)

    def _stored(self, reference: Reference) -> Value:
        try:
            return self.vault.secret(reference.name) if reference.kind == "secret" else self.vault.variable(reference.name)
        except UnknownName as error:
            raise UnknownReference(f"{reference.text}: {error.message}") from error

    def _param(self, reference: Reference) -> Value:
        if reference.name not in self.params:
            given = ", ".join(sorted(self.params)) or "none"
            raise UnknownReference(f"{reference.text}: the run has no parameter {reference.name} (it has: {given})")
        value = self.params[reference.name]
        if value is None or isinstance(value, (str, int, float, bool)):
            return value
        return str(value)

    def _of_run(self, reference: Reference) -> Value:
        values = {
            "id": self.run_id,
            "date": self.date.isoformat() if self.date else None,
            "date_nodash": self.date.strftime("%Y%m%d") if self.date else None,
            "started_at": _utc(self.started_at),
            "interval_start": _utc(self.interval_start),
            "interval_end": _utc(self.interval_end),
        }
        value = values[reference.name]
        if value is None:
            raise UnknownReference(f"{reference.text}: this run has none" + (_NO_INTERVAL if reference.name.startswith("interval") else ""))
        return value

    def substitute(self, value: Any) -> Any:
        """`value` with the references in every text of it (nested lists and objects too) replaced. Errors: `UnknownReference`."""
        if isinstance(value, str):
            return self._substitute_text(value)
        if isinstance(value, Mapping):
            return {key: self.substitute(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.substitute(item) for item in value]
        return value

    def _substitute_text(self, text: str) -> Any:
        found = list(find(text))
        if not found:
            return text
        if len(found) == 1 and found[0].text == text.strip() and not found[0].escaped:
            return self.value(found[0])
        parts, done = [], 0
        for reference in found:
            parts += [text[done : reference.start], as_text(self.value(reference))]
            done = reference.end
        return "".join(parts) + text[done:]


def _utc(moment: dt.datetime | None) -> str | None:
    return moment.astimezone(dt.UTC).isoformat() if moment else None


def as_text(value: Value) -> str:
    """A value within a text: as JSON writes it, without quotes; null is nothing."""
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else str(value)
