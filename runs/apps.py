import uuid
from typing import Any

from django.apps import AppConfig

from brokoli_site.common.errors import Conflict
from pipelines.guards import deletion_guards


class RunsConfig(AppConfig):
    name = "runs"

    def ready(self) -> None:
        deletion_guards.append(self.refuse_while_active)

    def refuse_while_active(self, pipeline_id: uuid.UUID) -> None:
        """Errors: `Conflict` while runs of the pipeline wait or execute."""
        runs: Any = self.get_model("Run")
        active = runs.objects.active().filter(pipeline_id=pipeline_id).count()
        if active:
            which = "1 run of it is" if active == 1 else f"{active} runs of it are"
            raise Conflict(f"The pipeline cannot be deleted while {which} active; cancel or await them.")
