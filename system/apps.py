from django.apps import AppConfig
from django.core import checks

from brokoli_site.common import audit, rights
from runs import added_chores
from system import audit_commands
from system.crontab import TAG, check_crontab
from system.deploy_checks import check_deployment

RIGHTS = {
    "settings": {"view": "Can see settings", "edit": "Can change settings and delete old runs"},
    "audit": {"view": "Can see the audit log", "export": "Can export the audit log"},
}


class SystemConfig(AppConfig):
    name = "system"

    def ready(self) -> None:
        # With `--deploy` only: the other commands, `crontab add` and `migrate` among them, must work before the entries are there, and on
        # the machines whose cron has none.
        checks.register(check_crontab, TAG, deploy=True)
        checks.register(check_deployment, checks.Tags.security, deploy=True)
        rights.register(self.name, RIGHTS)
        added_chores.makers.append("system.openlineage.chore")
        added_chores.makers.append("system.forgetting.chore")
        audit.writers.append("system.audit.write")
        audit_commands.listen()
        added_chores.makers.append("system.audit_retention.chore")
