"""What every view of the API shares: the order of its refusals, strict query parameters and strict bodies.

class RunList(ApiView):
    required_permissions = {"GET": "runs.view"}
    query_serializers = {"GET": RunListQuery}          # a StrictSerializer; without one no parameter is accepted

    def get(self, request):
        self.query["status"]                           # validated

body = read_body(request, RunBody)                     # a StrictSerializer; 400 naming unknown or wrong fields
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator
from django.http import QueryDict
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.views import APIView

from brokoli_site.common.errors import BadRequest, NotFound
from brokoli_site.common.problems import BodyError, QueryError, flattened


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses fields that it does not declare: a misspelt one would otherwise be ignored in silence."""

    also_in_schema: ClassVar[Mapping[str, Any]] = {}  # what the OpenAPI document says of the whole, besides the fields

    def to_internal_value(self, data: Any) -> Any:
        names = data if isinstance(data, Mapping) else ()
        kind = self.context.get("kind", "field")
        unknown = {str(name): [f"There is no such {kind}. Known: {self._known()}."] for name in names if name not in self.fields}
        try:
            value = super().to_internal_value(data)
        except serializers.ValidationError as error:
            if unknown and isinstance(error.detail, dict):
                raise serializers.ValidationError({**error.detail, **unknown}) from error
            raise
        if unknown:
            raise serializers.ValidationError(unknown)
        return value

    def get_fields(self) -> dict[str, Any]:
        fields = super().get_fields()
        for field in fields.values():
            if isinstance(field, serializers.ChoiceField):
                field.error_messages = {**field.error_messages, "invalid_choice": _choices_sentence(field)}
            elif isinstance(field, serializers.IntegerField) and None not in (field.min_value, field.max_value):
                _say_range(field)
        return fields

    def _known(self) -> str:
        return ", ".join(self.fields) or "none"


def _choices_sentence(field: serializers.ChoiceField) -> str:
    # The sentence is a template of DRF's; a brace in a choice must stay one.
    choices = ", ".join(map(str, field.choices)).replace("{", "{{").replace("}", "}}")
    return f'"{{input}}" is none of {choices}.'


def _say_range(field: serializers.IntegerField) -> None:
    """Whatever is wrong with the number, the answer has both ends."""
    sentence = f"A whole number from {field.min_value} to {field.max_value}."
    field.error_messages = field.error_messages | dict.fromkeys(("invalid", "max_string_length"), sentence)
    for validator in field.validators:
        if isinstance(validator, MinValueValidator | MaxValueValidator):
            validator.message = sentence


class StrictIntegerField(serializers.IntegerField):
    """A JSON integer; `"5"`, `5.0` and `true` are none."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return super().to_internal_value(data)


class StrictBooleanField(serializers.BooleanField):
    """A JSON boolean; `"yes"` and `1` are none."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class StrictCharField(serializers.CharField):
    """A JSON string; `5` is none."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return str(super().to_internal_value(data))


def one_of(names: Iterable[str]) -> type[StrictCharField]:
    """A field for one of these names. The document tells them, and so does the answer to a name that is none, which others give."""

    @extend_schema_field({"type": "string", "enum": list(names)})
    class NameField(StrictCharField):
        pass

    return NameField


class ApiView(APIView):
    """Refuses in this order: not logged in (401), no such method (405), not allowed (403), an id that cannot be (404), the query (400)."""

    required_permissions: ClassVar[Mapping[str, str]] = {}
    query_serializers: ClassVar[Mapping[str, type[StrictSerializer]]] = {}

    query: dict[str, Any]  # the validated query parameters

    def check_permissions(self, request: Request) -> None:
        # A right that a method lacks on purpose must not turn "there is no such method" into "you may not".
        if request.user and request.user.is_authenticated and request.method not in self.allowed_methods:
            self.http_method_not_allowed(request)
        super().check_permissions(request)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if any("\0" in str(value) for value in kwargs.values()):
            raise NotFound
        method = "GET" if request.method == "HEAD" else str(request.method)
        self.query = read_query(request, self.query_serializers.get(method, StrictSerializer))


def read_query(request: Request, serializer_class: type[StrictSerializer]) -> dict[str, Any]:
    """The query parameters, validated. Errors: `QueryError` naming every parameter that is unknown, wrong, or given twice."""
    given: QueryDict = request.query_params
    many = {name for name, field in serializer_class().fields.items() if isinstance(field, serializers.ListField | serializers.MultipleChoiceField)}
    errors = {name: ["Give it once."] for name in given if len(given.getlist(name)) > 1 and name not in many}
    # A plain dictionary: of a QueryDict, DRF would take what is empty or left out for a form's empty field or unticked box.
    serializer = serializer_class(data={name: given.getlist(name) if name in many else given[name] for name in given}, context={"kind": "parameter"})
    if not serializer.is_valid():
        errors |= {_name(pointer): messages for pointer, messages in flattened(serializer.errors)}
    if errors:
        raise QueryError(errors)
    return dict(serializer.validated_data)


def _name(pointer: str) -> str:
    """A query parameter's name of the pointer that DRF's details were given."""
    return pointer.removeprefix("/").replace("~1", "/").replace("~0", "~")


def read_body(request: Request, serializer_class: type[StrictSerializer], ignored: Collection[str] = ()) -> dict[str, Any]:
    """The fields of the body, validated; an empty body is `{}`. Errors: `BodyError` naming every field at fault.

    `ignored` are fields of answers that a client may send back with its change.
    """
    return read_fields(request.data, serializer_class, ignored)


def read_fields(data: Any, serializer_class: type[StrictSerializer], ignored: Collection[str] = ()) -> dict[str, Any]:
    """The same of a body that was parsed already."""
    if not isinstance(data, dict):
        raise BadRequest("The body must be a JSON object.")
    data = {name: value for name, value in data.items() if name not in ignored}
    serializer = serializer_class(data=data)
    if not serializer.is_valid():
        raise BodyError(dict(flattened(serializer.errors)))
    return dict(serializer.validated_data)
