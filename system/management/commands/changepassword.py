from django.contrib.auth.management.commands import changepassword

from system.audit_commands import InOneTransaction


class Command(InOneTransaction, changepassword.Command):
    """Django's own, in the audit log."""
