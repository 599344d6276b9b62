"""What keeps a pipeline from being deleted. The apps above this one register here, because this one knows none of them."""

import uuid
from collections.abc import Callable

# Each is called with the pipeline's id, inside the transaction that would delete it, and raises `Conflict` to refuse.
deletion_guards: list[Callable[[uuid.UUID], None]] = []
