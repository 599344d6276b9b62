import uuid
from typing import TYPE_CHECKING, Any

from django.apps import AppConfig
from django.db.models.signals import pre_migrate

from brokoli_site.common.errors import Conflict
from pipelines.guards import deletion_guards, save_listeners
from pipelines.spec import PipelineSpec
from runs.freed_pages import make_shrinkable

if TYPE_CHECKING:  # models come after apps
    from pipelines.models import Pipeline


class RunsConfig(AppConfig):
    name = "runs"

    def ready(self) -> None:
        pre_migrate.connect(make_shrinkable, sender=self, dispatch_uid="runs.make_shrinkable")
        deletion_guards.append(self.refuse_while_active)
        save_listeners.append(self.keep_schedule_in_step)

    def keep_schedule_in_step(self, pipeline: "Pipeline", spec: PipelineSpec) -> None:
        """What the clock makes of the pipeline follows its definition."""
        states: Any = self.get_model("ScheduleState")
        states.objects.keep_in_step(pipeline, spec)

    def refuse_while_active(self, pipeline_id: uuid.UUID) -> None:
        """Errors: `Conflict` while runs of the pipeline wait or execute."""
        runs: Any = self.get_model("Run")
        active = runs.objects.active().filter(pipeline_id=pipeline_id).count()
        if active:
            which = "1 run of it is" if active == 1 else f"{active} runs of it are"
            raise Conflict(f"The pipeline cannot be deleted while {which} active; cancel or await them.")
