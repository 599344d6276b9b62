"""The text that a user wrote, and where places in our edited form of it lie in the original."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.expressions.errors import ExpressionError

# A CASE over some thousand values fits; a megabyte is a mistake or an attack.
MOST_CHARACTERS = 100_000
DEEPEST_BRACKETS = 100


@dataclass(frozen=True, slots=True)
class Edit:
    """`text[start:end]` is to become `replacement`."""

    start: int
    end: int
    replacement: str


class Source:
    """A text with edits applied to it. `place` gives line and column in the text before any edit."""

    def __init__(self, text: str, origin: "Source | None" = None, edits: Sequence[Edit] = ()) -> None:
        self.text = text
        self._origin = origin
        self._edits = edits

    @classmethod
    def of(cls, text: object) -> "Source":
        """Errors: `ExpressionError` when it is no text, empty, too long, or nested so deeply that parsing it would be slow."""
        if not isinstance(text, str):
            raise ExpressionError(f"an expression is a text, not {type(text).__name__}")
        if not text.strip():
            raise ExpressionError("the expression is empty")
        source = cls(text)
        if len(text) > MOST_CHARACTERS:
            raise ExpressionError(f"the expression has {len(text):,} characters; at most {MOST_CHARACTERS:,} are allowed")
        nul = text.find("\0")
        if nul >= 0:
            raise source.error("the expression holds a NUL character", nul)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise source.error("the expression holds half of a surrogate pair", error.start) from error
        source._check_brackets()
        return source

    def _check_brackets(self) -> None:
        # Counts brackets within quotes too: whatever a parser takes for a quote, the limit holds.
        depth = 0
        for index, character in enumerate(self.text):
            if character in "([{":
                depth += 1
                if depth > DEEPEST_BRACKETS:
                    raise self.error(f"brackets are nested more than {DEEPEST_BRACKETS} deep", index)
            elif character in ")]}":
                depth = max(0, depth - 1)

    def edited(self, edits: Sequence[Edit]) -> "Source":
        """The text with `edits` (in order, not overlapping) applied."""
        if not edits:
            return self
        parts, done = [], 0
        for edit in edits:
            parts += [self.text[done : edit.start], edit.replacement]
            done = edit.end
        parts.append(self.text[done:])
        return Source("".join(parts), self, tuple(edits))

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column, both from 1, of the character at `offset`."""
        offset = max(0, min(offset, len(self.text)))
        if self._origin is not None:
            return self._origin.place(self._before_edits(offset))
        before = self.text[:offset]
        return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1

    def _before_edits(self, offset: int) -> int:
        shift = 0
        for edit in self._edits:
            start = edit.start + shift
            if offset < start:
                break
            if offset < start + len(edit.replacement):
                return edit.start
            shift += len(edit.replacement) - (edit.end - edit.start)
        return offset - shift

    def offset_of_byte(self, position: int) -> int:
        """The character at a byte position of the UTF-8 form, which is how DuckDB counts."""
        return len(self.text.encode()[: max(0, position)].decode(errors="ignore"))

    def error(self, message: str, offset: int = 0) -> ExpressionError:
        """The error to raise about the character at `offset`."""
        return ExpressionError(message, *self.place(offset))

    def error_at_byte(self, message: str, position: int | None) -> ExpressionError:
        return self.error(message, 0 if position is None else self.offset_of_byte(position))
