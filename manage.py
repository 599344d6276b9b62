#!/usr/bin/env python
"""Brokoli's command line: `manage.py serve`, `manage.py runworker`, `manage.py migrate`, …"""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db import OperationalError


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "brokoli_site.settings")
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        # A wrong setting is the operator's to mend: a sentence serves them, a traceback does not.
        sys.stderr.write(f"brokoli: {error}\n")
        return 2
    except OperationalError as error:
        # Whatever went wrong with it while it ran, programs that run for long have dealt with: this one could not begin.
        sys.stderr.write(f"brokoli: the database (DATABASE_URL) cannot be used: {str(error).splitlines()[0]}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
