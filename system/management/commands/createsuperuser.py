from django.contrib.auth.management.commands import createsuperuser

from system.audit_commands import InOneTransaction


class Command(InOneTransaction, createsuperuser.Command):
    """Django's own, in the audit log."""
