"""`python -m tests.fuzz.job`: one caller, one database of its own. Writes a line of JSON after each operation; `__main__` reads them."""

import argparse
import faulthandler
import json
import logging
import os
import random
import shutil
import sys
import time

import django
from django.conf import settings
from django.core.management import call_command

# After its time a caller ends the request that is under way. If it does not, a call hangs; which one, the stacks of all threads tell.
_GRACE = 120.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.job")
    parser.add_argument("--caller", required=True)
    parser.add_argument("--phases", required=True)
    parser.add_argument("--examples", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--operations", default="")
    parser.add_argument("--until", type=float, required=True, help="no request is begun after this time, in seconds of the epoch")
    options = parser.parse_args()
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    django.setup()
    logging.disable(logging.CRITICAL)
    call_command("migrate", verbosity=0)
    try:
        _fire(options)
    finally:
        shutil.rmtree(settings.HOME, ignore_errors=True)
    return 0


def _fire(options: argparse.Namespace) -> None:
    from tests.fuzz import callers, firing, world  # they need the settings

    world.World(random.Random(options.seed)).furnish()
    left = max(0.0, options.until - time.time())
    aim = firing.Aim(options.phases.split(","), options.examples, options.operations, left)
    faulthandler.dump_traceback_later(left + _GRACE, exit=True)
    for tally in firing.fire(callers.make(options.caller), aim, options.seed):
        sys.stdout.write(json.dumps({"requests": tally.requests}) + "\n")
        sys.stdout.flush()
    sys.stdout.write(json.dumps(tally.plain()) + "\n")


if __name__ == "__main__":
    sys.exit(main())
