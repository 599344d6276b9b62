"""How a validator of a config model says which field of several is wrong, when pydantic could only name the model."""

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError


def refused(field: str | tuple[int | str, ...], sentence: str) -> ValidationError:
    """To be raised in a validator. `sentence` goes on after the field's name: `is missing; say …`, without a full stop."""
    location = (field,) if isinstance(field, str) else field
    # The text is a value of the template, not the template: it may hold braces that a user wrote.
    problem = PydanticCustomError("config", "{sentence}", {"sentence": sentence})
    return ValidationError.from_exception_data("config", [InitErrorDetails(type=problem, loc=location, input=None)])
