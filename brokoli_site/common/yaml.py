"""YAML as pipelines are exported to and imported from: the part of it that is JSON.

Read by YAML 1.2's core rules, so `NO` and `2024-01-15` stay texts. Keys are texts as they are written. Anchors, aliases,
tags, several documents and duplicate keys are refused: what they are good for, a pipeline does not need, and what they
are bad for (a few lines that unfold to gigabytes, objects of Python) it must not have.
"""

import re
from collections.abc import Mapping
from typing import IO, Any

import yaml

from brokoli_site.common.errors import BadRequest
from brokoli_site.common.json import MOST_DIGITS, MOST_LEVELS, PipelineJSONParser, check, read_limited

_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None} | {
    word: value for value, words in ((True, ("true", "True", "TRUE")), (False, ("false", "False", "FALSE"))) for word in words
}


class InvalidYAML(BadRequest):
    """The body is not YAML."""

    code = "invalid_yaml"


class YAMLParser(PipelineJSONParser):
    """The body of a request as a Python value. Errors: `InvalidYAML`, `TooLarge`."""

    media_type = "application/yaml"

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        return loads(read_limited(stream, self.limit()))


class OldYAMLParser(YAMLParser):
    """Under the name that was usual before RFC 9512."""

    media_type = "application/x-yaml"


class TextYAMLParser(YAMLParser):
    """Under the name that browsers and `curl` scripts use."""

    media_type = "text/yaml"


def loads(body: bytes) -> Any:
    """The value of a YAML text; `{}` for an empty one. Errors: `InvalidYAML` naming line and column, `InvalidJSON` naming the place."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise InvalidYAML(f"The body is not UTF-8: byte {error.start} cannot be read.") from error
    if not text.strip():
        return {}
    try:
        value = _Reader(yaml.parse(text, Loader=yaml.CSafeLoader)).document()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InvalidYAML(f"The body is not YAML: {getattr(error, 'problem', None) or 'it has characters that are not allowed'}{where}.") from error
    check(value)
    return value


class _Reader:
    """Builds the value from the parser's events, one level of Python a level of the text: depth is limited before it is built."""

    def __init__(self, events: Any) -> None:
        self.events = events

    def document(self) -> Any:
        next(self.events)  # the stream starts
        if isinstance(next(self.events), yaml.StreamEndEvent):
            return {}
        value = self.value(next(self.events), 0)
        next(self.events)  # the document ends
        after = next(self.events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise _refused("Only one document is accepted", after)
        return value

    def value(self, event: Any, level: int) -> Any:
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise _refused("Anchors and aliases (& and *) are not accepted; write the value out", event)
        if event.tag not in (None, "!"):
            raise _refused(f"Tags ({event.tag[:60]}) are not accepted", event)
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event)
        if level == MOST_LEVELS:
            raise _refused(f"The body is nested more than {MOST_LEVELS} levels deep", event)
        return self.mapping(level) if isinstance(event, yaml.MappingStartEvent) else self.sequence(level)

    def sequence(self, level: int) -> list[Any]:
        found = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            found.append(self.value(event, level + 1))
        return found

    def mapping(self, level: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent) or event.anchor is not None or event.tag not in (None, "!"):
                raise _refused("A key must be a plain text", event)
            if event.value in found:
                raise _refused(f"The key '{event.value[:60]}' occurs twice", event)
            found[event.value] = self.value(next(self.events), level + 1)
        return found


def _scalar(event: Any) -> Any:
    """The value of a scalar: quoted ones are texts, plain ones what YAML 1.2's core schema says (without octal and hexadecimal)."""
    text: str = event.value
    if not event.implicit[0]:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        if len(text) > MOST_DIGITS:
            raise _refused(f"This number has more than {MOST_DIGITS} digits", event)
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        raise _refused(f"{text} has no JSON form; use null", event)
    return text


def _refused(why: str, event: Any) -> InvalidYAML:
    mark = event.start_mark
    return InvalidYAML(f"{why} (line {mark.line + 1}, column {mark.column + 1}).")


class _Dumper(yaml.SafeDumper):
    """Writes what `loads` reads back the same, and quotes what readers of YAML 1.1 would take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=_style(text))


def _style(text: str) -> str | None:
    """A block for texts of several lines (scripts, queries) that can be written so, escapes for what cannot be seen, else the dumper's choice."""
    if text.isprintable():
        return None
    lines = text.split("\n")
    block = len(lines) > 1 and lines[0] != "" and all(line == line.rstrip() and line.isprintable() for line in lines) and text[0] != " "
    return "|" if block else '"'


_Dumper.add_representer(str, _text)
for _tag, _pattern in (("int", _INTEGER), ("float", _FLOAT)):
    # In front of the resolvers of YAML 1.1, which stay: a text that looks like a number to either is quoted.
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern.pattern})$"), list("-+.0123456789"))


def dumps(value: Any) -> str:
    """The YAML text of a JSON value, keys in their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100_000)
