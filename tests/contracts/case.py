"""What a case file says of its node type."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.vault import Vault

if TYPE_CHECKING:
    from tests.contracts.workshop import Outcome, Workshop

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Given:
    """A config, and the node's inputs: each the SQL of a data set, such as `SELECT i AS id FROM range(3) t(i)`.

    Equal texts are made once and share an artifact, so a node can have a thousand large inputs for the price of one.
    `vault` holds the variables and connections that the config names.
    """

    config: Mapping[str, Any]
    inputs: Sequence[str] = ()
    vault: Vault = dataclasses.field(default_factory=Vault, kw_only=True)


@dataclass(frozen=True)
class Valid(Given):
    """A config that is accepted, runs, and gives this. What is None is not looked at.

    `rows` are compared in order, unless `ordered` is False. `logged` are parts of log lines. `before` puts files where the
    node finds them; `after` looks at what cannot be said otherwise.
    """

    columns: Sequence[str] | None = None
    types: Sequence[str] | None = None
    rows: Sequence[Row] | None = None
    ordered: bool = True
    logged: Sequence[str] = ()
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    before: "Callable[[Workshop], None] | None" = None
    after: "Callable[[Outcome, Workshop], None] | None" = None
    name: str = ""


@dataclass(frozen=True)
class Invalid(Given):
    """A config that is refused when it is saved and when it runs, naming `field` and saying `words` in the sentence.

    With `inputs` their columns are known when it is saved. `at_save` False: only the run can see it (references, files).
    `line` and `column`: the place within the text of the field.
    """

    field: str = ""
    words: str = ""
    at_save: bool = True
    line: int | None = None
    column: int | None = None
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    before: "Callable[[Workshop], None] | None" = None


@dataclass(frozen=True)
class Failing(Given):
    """A valid config that meets data it cannot work with: the node fails and its sentence has all of `words`; nothing is left."""

    words: Sequence[str] = ()
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    before: "Callable[[Workshop], None] | None" = None
    after: "Callable[[Workshop], None] | None" = None


@dataclass(frozen=True)
class Cases:
    """All of a type's cases.

    `typical(workshop, table)` makes of the SQL of any data set a node that takes it in and gives every one of its rows and
    columns back (a source reads it from a file that the function writes; a sink writes it to a file).
    `slow(workshop)` is a node that would work for at least five seconds on one core, to be stopped in the middle.
    `read_back(workshop)` is the SQL of what a sink wrote in the typical case.
    """

    valid: Sequence[Valid]
    invalid: Sequence[Invalid]
    typical: "Callable[[Workshop, str], Given]"
    slow: "Callable[[Workshop], Given]"
    failing: Sequence[Failing] = ()
    normalised: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]] = ()  # (as written, as kept)
    read_back: "Callable[[Workshop], str] | None" = None
    refuses_many: str = ""  # the words with which the typical case, by its nature, refuses a million rows
    ordered: bool = True  # does the typical case promise the order of the rows?
