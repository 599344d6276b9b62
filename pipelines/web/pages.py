"""How the pages of an answer follow each other. Pure: addresses and what came back.

*Planned* pages (offset, numbered) have addresses that are known before any answer, so several can be asked for at once. *Linked* ones
(cursor, next link, link header) name the next in each answer.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urljoin

from pydantic import Field, model_validator
from requests.utils import parse_header_links

from brokoli_site.common.errors import NodeError
from pipelines.nodes.base import NodeConfig
from pipelines.web.targets import with_params

Strategy = Literal["offset", "cursor", "numbered", "next_link", "link_header"]
_NEEDED: dict[str, tuple[str, ...]] = {
    "offset": ("page_size",),
    "cursor": ("cursor_path", "cursor_param"),
    "numbered": ("page_param",),
    "next_link": ("next_path",),
    "link_header": (),
}


class Pagination(NodeConfig):
    """How the pages of an answer follow each other."""

    strategy: Strategy = Field(description="How the next page is named: offset, numbered, cursor, next_link or link_header.")
    page_size: int | None = Field(None, ge=1, le=1_000_000, description="Records asked for a page.")
    max_records: int | None = Field(None, ge=1, description="Stop after so many records.")
    max_pages: int = Field(10_000, ge=1, le=1_000_000, description="Pages after which the node fails: a guard against answers without end.")
    offset_param: str = Field("offset", min_length=1, description="offset: the param with the number of records before the page.")
    limit_param: str = Field("limit", description="The param with the page size; with `page_size` other strategies send it too.")
    end_flag: str = Field("", description="offset, numbered: path of a value that is true on the last page.")
    total_path: str = Field("", description="offset: path of the number of all records.")
    short_pages: bool = Field(default=False, description="offset: a page with fewer records than `page_size` need not be the last.")
    cursor_path: str = Field("", description="cursor: path of the value that names the next page.")
    cursor_param: str = Field("", description="cursor: the param that sends it back.")
    page_param: str = Field("", description="numbered: the param with the number of the page.")
    start: int = Field(1, ge=0, description="numbered: the number of the first page.")
    total_pages_path: str = Field("", description="numbered: path of the number of pages.")
    next_path: str = Field("", description="next_link: path of the address of the next page.")
    rel: str = Field("next", min_length=1, description="link_header: the relation of the link to follow.")

    @model_validator(mode="after")
    def _complete(self) -> "Pagination":
        missing = [name for name in _NEEDED[self.strategy] if not getattr(self, name)]
        if missing:
            raise ValueError(f"of strategy {self.strategy} needs {' and '.join(missing)}")
        return self

    @property
    def planned(self) -> bool:
        return self.strategy in ("offset", "numbered")

    def limit_params(self) -> dict[str, object]:
        given = self.strategy == "offset" or "limit_param" in self.model_fields_set
        return {self.limit_param: self.page_size} if self.page_size and self.limit_param and given else {}


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its records as a file, and what it says of the others. `values` holds what is at the paths that were asked for."""

    number: int
    count: int
    path: Path
    kind: str
    size: int
    url: str
    link: str = ""
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Planned:
    """Pages by offset or number."""

    config: Pagination
    url: str

    def address(self, index: int) -> str:
        """Of the page with this index, from 0."""
        config = self.config
        name, value = (
            (config.page_param, config.start + index) if config.strategy == "numbered" else (config.offset_param, index * (config.page_size or 0))
        )
        return with_params(self.url, {**config.limit_params(), name: value})

    def pages(self, first: Page) -> int | None:
        """How many there are, as far as the first one tells. Errors: `NodeError`."""
        config = self.config
        if config.strategy == "numbered":
            return _number(first, config.total_pages_path)
        total = _number(first, config.total_path)
        return None if total is None else -(-total // (config.page_size or 1))

    def ends(self, page: Page, known: int | None) -> bool:
        """Whether this page is the last one. Errors: `NodeError` for a page that leaves it open."""
        config = self.config
        if page.count == 0 or (known is not None and page.number >= known) or page.values.get(config.end_flag) in (True, "true"):
            return True
        short = config.strategy == "offset" and page.count < (config.page_size or 0)
        if not short or config.short_pages:
            return False
        if known is None and not config.end_flag:
            return True
        raise NodeError(
            f"Page {page.number} has {page.count} records where {config.page_size} were asked for, and the answer says that more follow. "
            f"If the server never gives more, set page_size to {page.count}, or records are skipped; if pages may be short, set short_pages."
        )


@dataclass(frozen=True, slots=True)
class Linked:
    """Pages of which each names the next."""

    config: Pagination
    url: str
    follow: Callable[[str, str], str]  # an address, and what named it: the address that may be asked
    _seen: set[str] = field(default_factory=set)

    def first(self) -> str:
        return with_params(self.url, self.config.limit_params())

    def following(self, page: Page) -> str | None:
        """The address of the next page; None after the last. Errors: `NodeError` for one that was there before."""
        if self.config.strategy == "cursor":
            return self._by_cursor(page)
        link = _link(page, self.config.rel) if self.config.strategy == "link_header" else str(page.values.get(self.config.next_path) or "")
        if not link:
            return None
        address = self.follow(urljoin(page.url, link), f"The link to the page after page {page.number}")
        self._check_new(address, page, "link")
        return address

    def _by_cursor(self, page: Page) -> str | None:
        cursor = page.values.get(self.config.cursor_path)
        if cursor in (None, "", False):
            return None
        self._check_new(str(cursor), page, "cursor")
        return with_params(self.first(), {self.config.cursor_param: cursor})

    def _check_new(self, name: str, page: Page, what: str) -> None:
        if name in self._seen:
            raise NodeError(f"Page {page.number} names a next {what} that an earlier page named already: the pages would go round for ever.")
        self._seen.add(name)


def wanted_paths(config: Pagination | None) -> tuple[str, ...]:
    """Where each page says something of the others."""
    if config is None:
        return ()
    by_strategy = {
        "offset": (config.end_flag, config.total_path),
        "numbered": (config.end_flag, config.total_pages_path),
        "cursor": (config.cursor_path,),
        "next_link": (config.next_path,),
    }
    return tuple(path for path in by_strategy.get(config.strategy, ()) if path)


def _number(page: Page, path: str) -> int | None:
    if not path:
        return None
    value = page.values.get(path)
    try:
        return int(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise NodeError(f"At '{path}' page {page.number} has no whole number.") from None


def _link(page: Page, rel: str) -> str:
    """Of the Link header (RFC 8288)."""
    try:
        links = parse_header_links(page.link) if page.link else []
    except (ValueError, IndexError):
        raise NodeError(f"The Link header of page {page.number} cannot be read.") from None
    return next((str(link.get("url", "")) for link in links if rel.lower() in str(link.get("rel", "")).lower().split()), "")
