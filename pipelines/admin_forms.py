"""Forms of the admin for connections and variables: they call the use cases, and hold no stored secret."""

import json
from typing import TYPE_CHECKING, Any

from django import forms

from brokoli_site.common.errors import BrokoliError
from brokoli_site.common.problems import BodyError
from pipelines import connections, variables
from pipelines.connection_types import TYPES
from pipelines.models import Connection, Variable
from pipelines.object_rules import User
from pipelines.vault import VARIABLE_TYPES

if TYPE_CHECKING:
    ModelForm = forms.ModelForm[Any]
else:
    ModelForm = forms.ModelForm

_SECRET = forms.PasswordInput(render_value=False, attrs={"autocomplete": "new-password"})


class _UseCaseForm(ModelForm):
    """Saves with the use case when everything else of the form is right, so that what that refuses stands beside its field."""

    places: dict[str, str] = {}  # noqa: RUF012 - names of the form's fields by those of the body
    user: User  # who fills it in: the admin makes a class of the form for each
    result: Any = None

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if not self.errors:
            try:
                self.result = self.perform(cleaned)
            except BodyError as error:
                for pointer, sentences in error.errors.items():
                    name = pointer.split("/")[1] if pointer else ""
                    name = self.places.get(name, name)
                    self.add_error(name if name in self.fields else None, list(sentences))
            except BrokoliError as error:
                self.add_error(None, error.message)
        return cleaned

    def perform(self, cleaned: dict[str, Any]) -> Any:
        raise NotImplementedError

    def saved(self) -> Any:
        return self.result

    def validate_unique(self) -> None:
        """The use case says who has the name, and has made the row by now."""


class ConnectionForm(_UseCaseForm):
    type = forms.ChoiceField(choices=[(name, found.label) for name, found in TYPES.items()])
    password = forms.CharField(required=False, strip=False, widget=_SECRET, help_text="Empty: as it is. Or where it is kept: env://…, file://….")
    options = forms.CharField(required=False, widget=forms.Textarea, help_text="JSON object. Secret options are never shown: give them to set them.")
    clear = forms.CharField(required=False, help_text="Names of secrets to take away, separated by commas: password, token.")
    places = {"extra": "options"}  # noqa: RUF012

    class Meta:
        model = Connection
        fields = ("conn_id", "type", "description", "host", "port", "schema", "login")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.version and not self.instance._state.adding:
            self.initial["options"] = json.dumps(self.instance.extra, indent=2, ensure_ascii=False)

    def perform(self, cleaned: dict[str, Any]) -> Any:
        names = ("type", "description", "host", "port", "schema", "login")
        body = {name: cleaned.get(name) for name in names} | {"password": cleaned.get("password") or "", "extra": cleaned.get("options") or "{}"}
        if self.instance._state.adding:
            return connections.create(cleaned["conn_id"], body, user=self.user)
        body = connections.without_secrets(body, [name.strip() for name in (cleaned.get("clear") or "").split(",") if name.strip()])
        return connections.change(self.instance.conn_id, body, whole=True, seen={self.instance.version}, user=self.user)


class VariableForm(_UseCaseForm):
    type = forms.ChoiceField(choices=[(name, name) for name in VARIABLE_TYPES])
    new_value = forms.CharField(required=False, strip=False, widget=forms.Textarea, label="Value", help_text="Of a variable that is no secret.")
    new_secret = forms.CharField(required=False, strip=False, widget=_SECRET, label="Secret", help_text="Empty: as it is. Or env://…, file://….")
    places = {"value": "new_value"}  # noqa: RUF012

    class Meta:
        model = Variable
        fields = ("key", "type", "description")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding and self.instance.type != "secret":
            value = json.loads(self.instance.value)
            self.initial["new_value"] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    def perform(self, cleaned: dict[str, Any]) -> Any:
        is_secret = cleaned["type"] == "secret"
        body = {
            "type": cleaned["type"],
            "description": cleaned.get("description") or "",
            "value": cleaned["new_secret" if is_secret else "new_value"],
        }
        if self.instance._state.adding:
            return variables.create(cleaned["key"], body, user=self.user)
        return variables.change(self.instance.key, body, whole=True, seen={self.instance.version}, user=self.user)
