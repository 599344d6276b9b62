"""Fetches the pages of an API into one file: in their order, however many are asked for at the same time."""

import shutil
import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from brokoli_site.common.errors import NodeError
from brokoli_site.common.outbound import Answer
from pipelines.nodes import csv_files, json_files
from pipelines.nodes.base import NodeContext
from pipelines.web import bodies, pages, records
from pipelines.web.bodies import Body, Budget, Storage
from pipelines.web.pages import Linked, Page, Pagination, Planned
from pipelines.web.requesting import Requester
from pipelines.web.targets import Target, shown

_PROGRESS_SECONDS = 1.0


class Scratch:
    """Files in the node's own folder. Implements `bodies.Storage`."""

    def __init__(self, context: NodeContext) -> None:
        self._folder = context.scratch()
        self._names = iter(range(10**9))  # `next` of it is one step of the interpreter, so threads get different ones

    def new(self) -> Path:
        return self._folder / str(next(self._names))

    def drop(self, path: Path) -> None:
        path.unlink(missing_ok=True)


class Memory:
    """Files that are on no disk, for a dry run. Implements `bodies.Storage`."""

    def __init__(self, context: NodeContext) -> None:
        if context.memory_file is None:
            raise NodeError("A dry run keeps no answers on this system.")
        self._new = context.memory_file

    def new(self) -> Path:
        return self._new()

    def drop(self, path: Path) -> None:
        path.write_bytes(b"")


@dataclass
class Fetching:
    """What the requests of a node have in common. `url` is the first one's, with its params."""

    requester: Requester
    method: str
    target: Target
    url: str
    headers: Mapping[str, str] = field(repr=False)
    content: bytes | None = field(repr=False)
    storage: Storage
    budget: Budget
    most: int
    encoding: str | None

    @property
    def context(self) -> NodeContext:
        return self.requester.context

    def one(self, *, plain: bool, url: str = "", what: str = "") -> Body:
        """The answer of one request, as a file. Errors: `NodeError`, `RequestFailed`, the stop's reason."""
        path = self.storage.new()

        def receive(answer: Answer) -> Body:
            return bodies.save(answer, path, self.budget, self.most, self.encoding, plain=plain)

        return self.requester.ask(self.method, url or self.url, self.headers, receive, body=self.content, what=what)


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """How records are found. `may_be_empty`: an answer without the array at `records` means none, because its columns are declared."""

    records: str
    pagination: Pagination | None
    format: str
    delimiter: str
    header: bool
    concurrency: int
    checkpoint_every: int | None
    first_page_only: bool
    may_be_empty: bool


@dataclass(slots=True)
class Fetched:
    """All records in one file. `kind` is `json` for an answer that is one array, kept as it came."""

    path: Path
    kind: str
    count: int | None = 0  # None: nobody counted
    pages: int = 0
    size: int = 0

    def told(self) -> str:
        counted = "" if self.count is None else f"{self.count:,} record{'' if self.count == 1 else 's'}, "
        return f"{counted}{bodies.size(self.size)} in {self.pages:,} page{'' if self.pages == 1 else 's'}"


def records_of(fetching: Fetching, options: RecordOptions) -> Fetched:
    """Fetch all pages. Errors: `NodeError`, `RequestFailed`, the stop's reason."""
    if options.pagination is None:
        return _single(fetching, options)
    gathered = _Gathered(fetching, options, fetching.storage.new())
    try:
        for page in _pages(fetching, options, options.pagination):
            if gathered.add(page):
                break
    finally:
        fetching.requester.halt()  # pages beyond the last, which were asked for ahead
    return gathered.fetched


def _single(fetching: Fetching, options: RecordOptions) -> Fetched:
    """One answer; what DuckDB reads as it is stays as it is."""
    body = fetching.one(plain=True)
    bodies.check_encoding(body)
    kind = bodies.kind_of(body, options.format)
    if kind == "json" and not options.records and json_files.first_character(body.path) in ("[", ""):
        empty = json_files.is_empty(body.path)
        return Fetched(body.path, "json", 0 if empty else None, 1, body.size)
    if kind in ("csv", "tsv"):
        return Fetched(body.path, kind, None, 1, body.size)
    page = _page(fetching, options, body, 1, kind)
    return Fetched(page.path, page.kind, page.count, 1, body.size)


def _page(fetching: Fetching, options: RecordOptions, body: Body, number: int, kind: str) -> Page:
    """The records of an answer in a file of their own, and what it says of other pages."""
    what = f"page {number}" if options.pagination else f"the answer of {shown(body.url)}"
    if options.records and kind != "json":
        raise NodeError(f"`records` is for JSON, and {what} is {kind}. Leave it empty, or set `format`.")
    path = body.path if kind in ("csv", "tsv") else fetching.storage.new()
    values = {wanted: records.value_at(body.path, wanted, what) for wanted in pages.wanted_paths(options.pagination)} if kind == "json" else {}
    if kind in ("csv", "tsv"):
        delimiter = options.delimiter or ("\t" if kind == "tsv" else csv_files.likely_delimiter(body.path))
        count = records.count_rows(body.path, delimiter, header=options.header)
    else:
        with path.open("wb") as target:
            count = _copied(fetching, options, body, target, what, number, kind)
        fetching.storage.drop(body.path)
    return Page(number, count, path, kind if kind in ("csv", "tsv") else "jsonl", body.size, body.url, body.link, values)


def _copied(fetching: Fetching, options: RecordOptions, body: Body, target: BinaryIO, what: str, number: int, kind: str) -> int:
    stop = fetching.context.stop
    if kind == "jsonl":
        return records.copy_lines(body.path, target, stop)
    if json_files.first_character(body.path) == "":
        return 0
    try:
        return records.copy(body.path, options.records, target, what, stop)
    except records.Missing as error:
        # Some servers leave the array out where it would be empty. On the first page that looks the same as a wrong path.
        if number == 1 and not options.may_be_empty:
            raise
        fetching.context.log.warning(f"{error.message} Taken as no records.")
        return 0


# --- many pages ---------------------------------------------------------------------------------------------------


def _pages(fetching: Fetching, options: RecordOptions, pagination: Pagination) -> Iterator[Page]:
    """The pages in order, up to the last one."""
    if pagination.planned:
        yield from _planned(fetching, options, Planned(pagination, fetching.url))
        return
    linked = Linked(pagination, fetching.url, fetching.target.follow)
    address: str | None = linked.first()
    number = 1
    while address is not None:
        page = _fetch(fetching, options, address, number)
        yield page
        address, number = linked.following(page), number + 1


def _planned(fetching: Fetching, options: RecordOptions, planned: Planned) -> Iterator[Page]:
    """The first page alone, because it may tell how many there are; the others up to `concurrency` at the same time."""
    first = _fetch(fetching, options, planned.address(0), 1)
    known = planned.pages(first)
    yield first
    if planned.ends(first, known):
        return
    last = known if known is not None else planned.config.max_pages + 1
    if planned.config.max_records and planned.config.page_size:
        last = min(last, -(-planned.config.max_records // planned.config.page_size))
    with ThreadPoolExecutor(options.concurrency, thread_name_prefix="page") as pool:
        ahead: deque[Future[Page]] = deque()
        numbers = iter(range(2, last + 1))
        try:
            while True:
                while len(ahead) < options.concurrency and (number := next(numbers, None)) is not None:
                    ahead.append(pool.submit(_fetch, fetching, options, planned.address(number - 1), number))
                if not ahead:
                    return
                page = ahead.popleft().result()
                yield page
                if planned.ends(page, known):
                    return
        finally:
            for waiting in ahead:
                waiting.cancel()
            fetching.requester.halt()


def _fetch(fetching: Fetching, options: RecordOptions, address: str, number: int) -> Page:
    body = fetching.one(plain=True, url=address, what=f"Page {number} ({fetching.method} {shown(address)})")
    bodies.check_encoding(body)
    return _page(fetching, options, body, number, bodies.kind_of(body, options.format))


@dataclass
class _Gathered:
    """Puts the pages together, and says how far it is."""

    fetching: Fetching
    options: RecordOptions
    path: Path
    fetched: Fetched = field(init=False)
    _heading: bytes = b""
    _line_end: bytes = b"\n"
    _told_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.path.write_bytes(b"")
        self.fetched = Fetched(self.path, "jsonl")

    def add(self, page: Page) -> bool:
        """Whether that is enough. Errors: `NodeError`."""
        pagination = self.options.pagination
        fetched = self.fetched
        if pagination is None or fetched.count is None:
            raise TypeError("pages without pagination")
        if fetched.pages and page.kind != fetched.kind:
            raise NodeError(f"Page {page.number} is {page.kind}, and those before it are {fetched.kind}. Set `format`.")
        self._append(page)
        self.fetched = fetched = replace(
            fetched, kind=page.kind, count=fetched.count + page.count, pages=fetched.pages + 1, size=fetched.size + page.size
        )
        self._tell(pagination, page)
        if fetched.pages > pagination.max_pages and page.count:
            most = f"{pagination.max_pages:,} pages, the most that `pagination.max_pages` allows"
            raise NodeError(f"There are more than {most}. Raise it, or ask for less.")
        enough = pagination.max_records is not None and (fetched.count or 0) >= pagination.max_records
        return enough or self.options.first_page_only

    def _append(self, page: Page) -> None:
        with page.path.open("rb") as source, self.path.open("ab") as target:
            if page.kind in ("csv", "tsv") and self.options.header:
                heading = source.readline()
                if not self.fetched.pages:
                    self._line_end = b"\r\n" if heading.endswith(b"\r\n") else b"\n"
                    self._heading = heading.rstrip(b"\r\n")
                    target.write(heading)
                elif heading.strip() and heading.rstrip(b"\r\n") != self._heading:
                    raise NodeError(f"Page {page.number} has other columns than the first: its first line differs.")
            shutil.copyfileobj(source, target, 1024 * 1024)
            if page.kind in ("csv", "tsv") and source.tell() and not _ends_line(page.path):
                target.write(self._line_end)
        self.fetching.storage.drop(page.path)

    def _tell(self, pagination: Pagination, page: Page) -> None:
        log, fetched = self.fetching.context.log, self.fetched
        if self.options.checkpoint_every and fetched.pages % self.options.checkpoint_every == 0:
            log.info(f"Fetched {fetched.told()} so far.")
        if time.monotonic() - self._told_at >= _PROGRESS_SECONDS:
            self._told_at = time.monotonic()
            log.progress(min(1.0, (fetched.count or 0) / pagination.max_records) if pagination.max_records else 0.0, fetched.told())


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"
