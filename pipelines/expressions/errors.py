"""What is wrong with an expression, and where in its text."""

from brokoli_site.common.errors import NodeError
from pipelines.problems import shortened

_LONGEST = 1000  # it may quote what a user wrote


class ExpressionError(NodeError):
    """The expression is not valid."""

    code = "invalid_expression"

    def __init__(self, message: str | None = None, line: int = 1, column: int = 1) -> None:
        super().__init__(message and shortened(message[0].upper() + message[1:], _LONGEST))
        self.line = line  # from 1, within the text that the user wrote
        self.column = column  # from 1, in characters

    @property
    def message_with_place(self) -> str:
        """For logs, where line and column have no field of their own."""
        return f"{self.message} (line {self.line}, column {self.column})"

    @property
    def sentence(self) -> str:
        """The message with a full stop, unless it asks."""
        return self.message if self.message.endswith(("?", ".", "!")) else f"{self.message}."
