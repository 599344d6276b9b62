"""What the apps above this one have to say about pipelines. They register here, because this app knows none of them."""

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from pipelines.spec import PipelineSpec

if TYPE_CHECKING:  # apps register before there are models
    from pipelines.models import Pipeline

# Each is called with the pipeline's id, inside the transaction that would delete it, and raises `Conflict` to refuse.
deletion_guards: list[Callable[[uuid.UUID], None]] = []
# Each is called with a pipeline and its new definition, inside the transaction that saves it: what must be in step with it is.
save_listeners: list[Callable[["Pipeline", PipelineSpec], None]] = []
