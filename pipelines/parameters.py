"""The parameters that a pipeline declares: names, types, defaults, what is required and what may be chosen. Pure.

`parameters` of a document is `{name: {type, required, default, choices, description}}`, or a list of such objects with a `name`.
A type is a plain name (`integer`) or the SDK's descriptor (`{"kind": "int64", "nullable": true}`).
"""

import datetime as dt
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from brokoli_site.common.errors import BrokoliError
from pipelines.problems import Problem, broken, kind_of, shortened

MOST_PARAMETERS = 100
MOST_CHOICES = 1_000
LONGEST_NAME = 200
ALWAYS_GIVEN = "date"  # backfills give it, and those who run for a date, whether or not the pipeline declares it

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_DATETIME = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}.*")
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_LONGEST_NUMBER = 30
_INT64 = 2**63
_KEYS = frozenset({"name", "type", "required", "default", "choices", "description"})


@dataclass(frozen=True, slots=True)
class Parameter:
    """One declared parameter. `choices` empty: any value of the type. `type` is a key of `TYPES`, or a kind that nobody checks here."""

    name: str
    type: str = "string"
    default: Any = None
    required: bool = False
    choices: tuple[Any, ...] = ()
    description: str = ""
    nullable: bool = False

    @property
    def expected(self) -> str:
        """What a value must be, for a sentence."""
        if self.choices:
            shown = ", ".join(_shown(choice) for choice in self.choices[:10])
            found = f"one of {shown}" + (f" and {len(self.choices) - 10} more" if len(self.choices) > 10 else "")
        else:
            found = TYPES[self.type][0] if self.type in TYPES else "a text, a number, true or false"
        return f"{found}, or null" if self.nullable else found

    def accepts(self, value: Any) -> bool:
        if value is None:
            # What may be left out, and has no default, is null then; saying so is the same.
            return self.nullable or (not self.required and self.default is None)
        is_of_type = TYPES[self.type][1] if self.type in TYPES else _is_anything
        return is_of_type(value) and (not self.choices or any(_same(value, choice) for choice in self.choices))

    def converted(self, value: Any) -> Any:
        """What nodes see of a value that a run was given. Forms and some clients send texts alone, so "5" is 5 where a number is declared."""
        found = _WRITTEN[self.type](value) if isinstance(value, str) and self.type in _WRITTEN else None
        return value if found is None else found


class InvalidParams(BrokoliError):
    """The params do not fit what the pipeline declares."""

    status, code = 422, "invalid_params"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        more = f" ({len(self.problems) - 1} more of its params cannot be used)" if len(self.problems) > 1 else ""
        super().__init__(self.problems[0].message + more)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -_INT64 <= value < _INT64


def _is_number(value: Any) -> bool:
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))


def _is_boolean(value: Any) -> bool:
    return isinstance(value, bool)


def _is_date(value: Any) -> bool:
    return isinstance(value, str) and _DATE.fullmatch(value) is not None and _reads(dt.date.fromisoformat, value)


def _is_datetime(value: Any) -> bool:
    return isinstance(value, str) and _DATETIME.fullmatch(value) is not None and _reads(dt.datetime.fromisoformat, value)


def _is_anything(value: Any) -> bool:
    return True


def _reads(read: Callable[[str], object], text: str) -> bool:
    try:
        read(text)
    except ValueError:
        return False
    return True


# By name: what a value must be, and whether one is.
TYPES: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "string": ("a text", _is_text),
    "integer": ("a whole number", _is_integer),
    "number": ("a number", _is_number),
    "boolean": ("true or false", _is_boolean),
    "date": ("a date such as 2024-01-31", _is_date),
    "datetime": ("a date and time such as 2024-01-31T06:00:00Z", _is_datetime),
}


def _number(text: str) -> int | float | None:
    if _INTEGER.fullmatch(text):
        return int(text)
    try:
        found = float(text) if len(text) <= _LONGEST_NUMBER else math.nan
    except ValueError:
        return None
    return found if repr(found) == text else None


# By name of a type: the value that a text writes, None when it is not written as that value always is. "5" is 5; "05" and "5 " are texts.
_WRITTEN: Mapping[str, Callable[[str], Any]] = {
    "integer": lambda text: int(text) if _INTEGER.fullmatch(text) else None,
    "number": _number,
    "boolean": {"true": True, "false": False}.get,
}
# The SDK's kinds. Others (decimal, duration, bytes, record, array, map) are accepted unchecked.
_KINDS = {
    **{f"{sign}int{bits}": "integer" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **dict.fromkeys(("float32", "float64"), "number"),
    "string": "string",
    "enum": "string",
    "boolean": "boolean",
    "bool": "boolean",
    "date": "date",
    "timestamp": "datetime",
}


# --- declarations -------------------------------------------------------------------------------------------------


def read(document: Mapping[str, Any], problems: list[Problem]) -> tuple[Parameter, ...]:
    """The declarations under `parameters`; what cannot be read is added to `problems`."""
    found: dict[str, Parameter] = {}
    for pointer, name, declaration in _declarations(document, problems):
        if not isinstance(name, str) or len(name) > LONGEST_NAME or not _NAME.fullmatch(name):
            rule = f"begins with a letter or '_' and has at most {LONGEST_NAME} letters, digits, '_', '-' or '.'"
            problems.append(_wrong(f"The name of a parameter {rule}; '{shortened(str(name))}' does not.", pointer))
        elif name in found:
            problems.append(_wrong(f"The parameter '{name}' is declared twice.", pointer))
        elif not isinstance(declaration, Mapping):
            problems.append(_wrong(f'The parameter \'{name}\' must be an object such as {{"type": "string"}}, not {kind_of(declaration)}.', pointer))
        else:
            found[name] = _Declaration(name, declaration, pointer, problems).parameter()
    params = document.get("params")
    for name, value in params.items() if isinstance(params, Mapping) else ():
        if name in found and not found[name].accepts(value):
            problems.append(
                broken(
                    f"'{name}' in 'params' must be {found[name].expected}{_unquoted(found[name], value)}, as it is declared.",
                    f"/params/{_token(name)}",
                    field="params",
                )
            )
    return tuple(found.values())


def _token(name: str) -> str:
    """A name as a token of a JSON Pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def _unquoted(parameter: Parameter, value: Any) -> str:
    """A document says what it means; only those who trigger a run may write a number as a text."""
    return " (not in quotes)" if isinstance(value, str) and parameter.converted(value) is not value else ""


def _wrong(message: str, pointer: str) -> Problem:
    return broken(message, pointer, field="parameters")


def _declarations(document: Mapping[str, Any], problems: list[Problem]) -> Iterator[tuple[str, Any, Any]]:
    """(pointer, name, declaration) of each, at most `MOST_PARAMETERS`."""
    given = document.get("parameters")
    if given is None:
        return
    if not isinstance(given, Mapping | list):
        problems.append(_wrong(f"'parameters' must be an object of declarations by name, or a list of them, not {kind_of(given)}.", "/parameters"))
        return
    if len(given) > MOST_PARAMETERS:
        problems.append(_wrong(f"A pipeline has at most {MOST_PARAMETERS} parameters; this one declares {len(given)}.", "/parameters"))
        return
    if isinstance(given, Mapping):
        for name, declaration in given.items():
            yield f"/parameters/{_token(str(name))}", name, declaration
    else:
        for index, declaration in enumerate(given):
            yield f"/parameters/{index}", declaration.get("name") if isinstance(declaration, Mapping) else declaration, declaration


@dataclass(frozen=True, slots=True)
class _Declaration:
    """One declaration while it is read. A part that is wrong is named once and then taken for its default."""

    name: str
    given: Mapping[str, Any]
    pointer: str
    problems: list[Problem]

    def parameter(self) -> Parameter:
        kind, nullable, values = self._type()
        bare = Parameter(self.name, kind, nullable=nullable)
        choices = self._choices(bare, "choices", self.given.get("choices")) or self._choices(bare, "type/values", values)
        allowed = Parameter(self.name, kind, choices=choices, nullable=nullable)
        default = self.given.get("default")
        if default is not None and not allowed.accepts(default):
            self._wrong("default", f"the default must be {allowed.expected}{_unquoted(allowed, default)}")
            default = None
        return Parameter(self.name, kind, default, self._flag("required"), choices, self._description(), nullable)

    def _type(self) -> tuple[str, bool, Any]:
        """(name of the type, whether null is a value of it, the values of an enum)."""
        given = self.given.get("type", "string")
        if isinstance(given, str) and given in TYPES:
            return given, False, None
        if isinstance(given, Mapping) and isinstance(given.get("kind"), str) and given["kind"]:
            kind = given["kind"]
            return _KINDS.get(kind, shortened(kind)), given.get("nullable") is True, given.get("values") if kind == "enum" else None
        self._wrong("type", f"the type must be one of {', '.join(TYPES)}, or an object with a 'kind'")
        return "unknown", True, None

    def _choices(self, parameter: Parameter, key: str, given: Any) -> tuple[Any, ...]:
        if given is None:
            return ()
        if not isinstance(given, list) or not 1 <= len(given) <= MOST_CHOICES:
            self._wrong(key, f"the choices must be a list of 1 to {MOST_CHOICES} values")
            return ()
        faults = [index for index, choice in enumerate(given) if choice is None or not parameter.accepts(choice)]
        for index in faults[:1]:
            self._wrong(f"{key}/{index}", f"each choice must be {parameter.expected}{_unquoted(parameter, given[index])}")
        return () if faults else tuple(given)

    def _flag(self, key: str) -> bool:
        found = self.given.get(key, False)
        if found is not None and not isinstance(found, bool):
            self._wrong(key, f"'{key}' must be true or false")
        return found is True

    def _description(self) -> str:
        found = self.given.get("description")
        if found is not None and not isinstance(found, str):
            self._wrong("description", "the description must be a text")
        return found if isinstance(found, str) else ""

    def _wrong(self, key: str, sentence: str) -> None:
        self.problems.append(_wrong(f"Parameter '{self.name}': {sentence}.", f"{self.pointer}/{key}"))


# --- values -------------------------------------------------------------------------------------------------------


def resolved(declared: Sequence[Parameter], defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What nodes see: declared defaults, the document's `params` over them, what was given over both.

    What is declared, not required and given by nobody is null, so that a reference to it resolves.
    """
    by_name = {parameter.name: parameter for parameter in declared}
    return {parameter.name: parameter.default for parameter in declared if parameter.default is not None or not parameter.required} | {
        **defaults,
        **{name: by_name[name].converted(value) if name in by_name else value for name, value in given.items()},
    }


def check(declared: Sequence[Parameter], defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`resolved`, after a look at what was given. A pipeline that declares nothing takes any params.

    Errors: `InvalidParams` with one problem for each name that is wrong, missing, or not declared.
    """
    problems = list(_faults(declared, defaults, given))
    if problems:
        raise InvalidParams(problems)
    return resolved(declared, defaults, given)


def missing(declared: Sequence[Parameter], defaults: Mapping[str, Any], given: Mapping[str, Any]) -> list[Parameter]:
    """The required parameters that nobody gives a value."""
    return [
        parameter
        for parameter in declared
        if parameter.required and parameter.default is None and parameter.name not in given and parameter.name not in defaults
    ]


def _faults(declared: Sequence[Parameter], defaults: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[Problem]:
    by_name = {parameter.name: parameter for parameter in declared}
    for name, value in given.items():
        parameter = by_name.get(name)
        if parameter is not None and not parameter.accepts(parameter.converted(value)):
            yield _fault(name, f"must be {parameter.expected}, not {_shown(value)}.")
        elif parameter is None and declared and name != ALWAYS_GIVEN and name not in defaults:
            yield _fault(name, f"is not declared. The pipeline declares {', '.join(by_name)}.")
    for parameter in missing(declared, defaults, given):
        yield _fault(parameter.name, f"must be given: {parameter.expected}.")


def _fault(name: str, sentence: str) -> Problem:
    return Problem(f"The parameter '{shortened(name)}' {sentence}", field=name, pointer=f"/params/{_token(name)}")


def _same(value: Any, choice: Any) -> bool:
    """`true` is not 1 in JSON."""
    return value == choice and isinstance(value, bool) == isinstance(choice, bool)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f"'{shortened(value, 40)}'"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return shortened(str(value), 40)


# --- what is doubtful ---------------------------------------------------------------------------------------------


def warnings(document: Mapping[str, Any], declared: Sequence[Parameter], defaults: Mapping[str, Any]) -> Iterator[Problem]:
    """What may be meant so and may not: types that nobody checks, keys that nothing is done with, schedules that give too little."""
    for parameter in declared:
        if parameter.type not in TYPES and parameter.type != "unknown":
            yield _doubt(f"Parameter '{parameter.name}': this server cannot check values of the type '{parameter.type}'; any is accepted.")
    yield from (_doubt(f"'{shortened(str(key))}' of a parameter is kept, but this server does nothing with it.") for key in _unknown_keys(document))
    lacking = missing(declared, defaults, {})
    if lacking and document.get("schedule"):
        names = ", ".join(f"'{parameter.name}'" for parameter in lacking)
        yield _doubt(f"The schedule can give no value to {names}, which {'is' if len(lacking) == 1 else 'are'} required. Declare a default.")


def _unknown_keys(document: Mapping[str, Any]) -> list[Any]:
    given = document.get("parameters")
    declarations = given.values() if isinstance(given, Mapping) else given if isinstance(given, list) else ()
    keys = (key for declaration in declarations if isinstance(declaration, Mapping) for key in declaration)
    return [key for key in dict.fromkeys(keys) if key not in _KEYS]


def _doubt(message: str) -> Problem:
    return Problem(message, field="parameters", severity="warning", pointer="/parameters")
