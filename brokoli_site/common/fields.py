"""Model fields that Django lacks."""

import json
from typing import TYPE_CHECKING, Any

from django.db import models


class DocumentField(models.TextField):  # type: ignore[type-arg]  # the real class takes no parameters
    """JSON that is kept as it was given: read and written whole, never searched.

    PostgreSQL's jsonb (Django's `JSONField`) sorts the keys of objects, so a definition would come back in another order than
    it was written in, and a table's columns with it.
    """

    if TYPE_CHECKING:  # what django-stubs reads to know which values an attribute of this field takes and gives
        _pyi_private_set_type: Any
        _pyi_private_get_type: Any

    def from_db_value(self, value: str | None, expression: object, connection: object) -> Any:
        return None if value is None else json.loads(value)

    def to_python(self, value: Any) -> Any:
        return json.loads(value) if isinstance(value, str) else value

    def get_prep_value(self, value: Any) -> str | None:
        return None if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)

    def value_to_string(self, obj: models.Model) -> str:
        return str(self.get_prep_value(self.value_from_object(obj)))
