"""The token that a webhook of a pipeline shows, or signs with: what one looks like, and where a document has one. Pure.

A document may bring one (`webhook_token`, as the SDK sends it). It is kept sealed beside the pipeline, and never stored in the document.
"""

import re
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.problems import Problem, broken

KEY = "webhook_token"
SHORTEST, LONGEST = 16, 200
_BYTES = 32
_USABLE = re.compile(rf"[!-~]{{{SHORTEST},{LONGEST}}}")  # it is sent in a header


def make() -> str:
    """A new one, of 256 random bits."""
    return "whk_" + secrets.token_urlsafe(_BYTES)


def problems(document: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with the token that a document brings. It is not repeated."""
    value = document.get(KEY)
    if value is None or value == "" or is_usable(value):
        return
    message = f"'{KEY}' must be a text of {SHORTEST} to {LONGEST} visible ASCII characters; POST …/webhook-token makes one that cannot be guessed."
    yield broken(message, f"/{KEY}", field=KEY)


def given(document: Mapping[str, Any]) -> str | None:
    """The token that a document brings; None: it says nothing about it."""
    value = document.get(KEY)
    return value if is_usable(value) else None


def without(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document without its token. An empty one tells nothing and stays."""
    return {key: value for key, value in document.items() if key != KEY or value in (None, "")}


def is_usable(value: Any) -> bool:
    return isinstance(value, str) and _USABLE.fullmatch(value) is not None
