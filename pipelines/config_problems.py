"""What pydantic says of a node's config, in sentences for people and with the field as they wrote it. Pure."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipelines.problems import shortened

_SENTENCES: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "missing": lambda _: "is missing",
    "string_type": lambda _: "must be a text",
    "bool_type": lambda _: "must be true or false",
    "bool_parsing": lambda _: "must be true or false",
    "int_type": lambda _: "must be a whole number",
    "int_parsing": lambda _: "must be a whole number",
    "int_from_float": lambda _: "must be a whole number",
    "float_type": lambda _: "must be a number",
    "float_parsing": lambda _: "must be a number",
    "list_type": lambda _: "must be a list",
    "tuple_type": lambda _: "must be a list",
    "dict_type": lambda _: "must be an object",
    "mapping_type": lambda _: "must be an object",
    "model_type": lambda _: "must be an object",
    "model_attributes_type": lambda _: "must be an object",
    "literal_error": lambda about: f"must be {about['expected']}",
    "enum": lambda about: f"must be {about['expected']}",
    "union_tag_not_found": lambda about: f"needs {about['discriminator']}",
    "union_tag_invalid": lambda about: (
        f"has the unknown {about['discriminator'].strip(chr(39))} '{shortened(str(about['tag']))}'; known: {about['expected_tags']}"
    ),
    "string_too_short": lambda about: "must not be empty" if about["min_length"] == 1 else f"must have at least {about['min_length']} characters",
    "too_short": lambda about: "must not be empty" if about["min_length"] == 1 else f"must have at least {about['min_length']} items",
    "string_too_long": lambda about: f"must have at most {about['max_length']} characters",
    "too_long": lambda about: f"must have at most {about['max_length']} items",
    "greater_than": lambda about: f"must be greater than {about['gt']}",
    "greater_than_equal": lambda about: f"must be {about['ge']} or more",
    "less_than": lambda about: f"must be less than {about['lt']}",
    "less_than_equal": lambda about: f"must be {about['le']} or less",
}


def config_problems(error: ValidationError, config: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """(dotted field, sentence without the field, the value at fault) for each place, once."""
    seen = set()
    for item in error.errors(include_url=False):
        field = field_of(item["loc"], config)
        sentence = _sentence(item)
        if (field, sentence) not in seen:
            seen.add((field, sentence))
            yield field, sentence, item["input"]


def _sentence(item: ErrorDetails) -> str:
    write = _SENTENCES.get(item["type"])
    if write is not None:
        return write(dict(item.get("ctx", {})))
    return item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ").rstrip(".")


def field_of(location: tuple[int | str, ...], config: Mapping[str, Any]) -> str:
    """`rules.2.condition` of pydantic's location, which also names the members of unions that it tried; those are left out."""
    found: list[str] = []
    value: Any = config
    for index, part in enumerate(location):
        is_last = index == len(location) - 1
        if _holds(value, part):
            value = value[part]
        elif not isinstance(value, Mapping) or not is_last:
            continue
        found.append(str(part))
    return ".".join(found)


def _holds(value: Any, part: int | str) -> bool:
    if isinstance(value, list | tuple):
        return isinstance(part, int) and part < len(value)
    return isinstance(value, Mapping) and part in value


def unknown_keys(model: BaseModel, prefix: str = "") -> Iterator[str]:
    """Dotted names of the keys in a valid config, at any depth, that its model does not declare."""
    yield from (f"{prefix}{key}" for key in model.model_extra or ())
    for name, info in type(model).model_fields.items():
        # Only what the document holds: a default has no place that a person could look at.
        if name in model.model_fields_set:
            yield from _nested(getattr(model, name), f"{prefix}{info.alias or name}.")


def _nested(value: Any, prefix: str) -> Iterator[str]:
    if isinstance(value, BaseModel):
        yield from unknown_keys(value, prefix)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _nested(item, f"{prefix}{index}.")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _nested(item, f"{prefix}{key}.")
