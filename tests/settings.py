"""Settings of the tests: a home of their own, so that nothing they do meets a person's `./var`. Each pytest process has one."""

import os
import tempfile
from pathlib import Path

os.environ["BROKOLI_HOME"] = tempfile.mkdtemp(prefix="brokoli-tests-")

from brokoli_site.settings import *  # noqa: F403 - the home has to be chosen before the settings read the environment
from brokoli_site.settings import DATABASES

# Tests kill processes, never the machine: what the system's cache holds survives them, so they need not wait for the disk.
if "init_command" in DATABASES["default"]["OPTIONS"]:
    DATABASES["default"]["OPTIONS"]["init_command"] += " PRAGMA synchronous=OFF;"
# All tests of a process come from one address within a few minutes; those of the limits set their own.
RATE_LIMIT = RATE_LIMIT_STRANGERS = RATE_LIMIT_GUESSES = 0
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# A test may look at a transaction for as long as it likes; the processes that it starts have the product's settings.
DATABASES["default"]["OPTIONS"].pop("options", None)
# What stands for the dbt of a user of Brokoli, on a machine that may have none.
DBT = Path(__file__).parent / "dbt_program"
# Each test client sets the middleware up anew; files are looked for when they are asked for, not all at each of those times.
WHITENOISE_AUTOREFRESH = True
