"""Every route of the URL configuration, as the table of routes writes them: `/api/runs/{run_id}/logs`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
# A view that is a function decides by itself what a method means; these two are what pages and their forms use.
OF_PAGES = ("GET", "POST")


@dataclass(frozen=True, slots=True)
class Route:
    """One address, its view, and the methods that are declared for it."""

    address: str
    view: Any  # the class of the view, or a function
    methods: tuple[str, ...]

    def right(self, method: str) -> str | None:
        """The right that the view asks for by name; None when it names none."""
        found = getattr(self.view, "required_permissions", {}).get(method)
        return None if found is None else str(found)


def routes(patterns: list[URLPattern | URLResolver] | None = None, prefix: str = "/") -> Iterator[Route]:
    """In the order in which they are tried."""
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        address = prefix + _written(str(pattern.pattern))
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, address)
            continue
        view = getattr(pattern.callback, "view_class", pattern.callback)
        yield Route(address, view, _methods(view) if isinstance(view, type) else OF_PAGES)


def _methods(view: type) -> tuple[str, ...]:
    found = tuple(method for method in METHODS if hasattr(view, method.lower()))
    return OF_PAGES if len(found) == len(METHODS) else found  # a redirection answers any


def _written(pattern: str) -> str:
    """A part of an address without its converters and regular expressions."""
    pattern = re.sub(r"\(\?P<(\w+)>[^)]*\)", r"{\1}", pattern)
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", pattern).strip("^$")
