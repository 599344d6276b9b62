"""`manage.py serve`: the web server and the workers of one machine, under one Ctrl-C."""

import argparse
import os
import socket
import sys
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from brokoli_site.common import exposure
from brokoli_site.common.migrations import is_up_to_date
from pipelines import sealing
from runs.supervisor import Child, Supervisor

_WEB_GRACE_SECONDS = 5.0


class Command(BaseCommand):
    help = "Serve the API and execute runs on this machine. Ctrl-C stops everything."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--host", default=settings.BIND, help="address to listen on")
        parser.add_argument("--port", type=int, default=8080)
        parser.add_argument("--workers", type=int, default=1, help="worker processes on this machine; 0 serves the API alone")

    def handle(self, *args: Any, host: str, port: int, workers: int, **options: Any) -> None:
        if not 1 <= port <= 65535 or not 0 <= workers <= 64:
            raise CommandError("--port must be from 1 to 65535, --workers from 0 to 64.")
        self._prepare_database()
        if fault := sealing.fault():
            raise CommandError(fault)
        self._check_exposure(host)
        self._check_port(host, port)
        os.environ["BROKOLI_BIND"] = host
        connection.close()
        children = [Child("web", _web_command(host, port), _WEB_GRACE_SECONDS)]
        grace = settings.DRAIN_SECONDS + 10.0
        children += [Child(f"worker {n}", [sys.executable, sys.argv[0], "runworker"], grace) for n in range(1, workers + 1)]
        shown = f"[{host}]" if ":" in host else host
        self.stdout.write(f"Brokoli on http://{shown}:{port} (API docs: /api/docs, admin: /admin/), {workers} worker(s). Ctrl-C stops.")
        self.stdout.flush()
        sys.exit(Supervisor(children, self._say).run())

    def _say(self, sentence: str) -> None:
        self.stderr.write(f"brokoli: {sentence}")

    def _prepare_database(self) -> None:
        """The embedded database is brought up to date by itself; a shared one is its operator's to migrate."""
        if connection.vendor == "sqlite":
            call_command("migrate", interactive=False, verbosity=0)
            return
        if not is_up_to_date():
            raise CommandError("The database is not up to date: run `manage.py migrate` first.")

    def _check_exposure(self, host: str) -> None:
        """A server that others can reach needs somebody who may log in, and a key that the operator chose."""
        if sentence := exposure.fault(host):
            raise CommandError(sentence)

    def _check_port(self, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise CommandError(f"Cannot listen on {host}:{port} ({error.strerror}). Choose another with --host or --port.") from error


def _web_command(host: str, port: int) -> list[str]:
    # Verbosity 0: Daphne would print a line of its own for each request, with the whole query in it.
    daphne = ["--bind", host, "--port", str(port), "--verbosity", "0", "--no-server-name", "brokoli_site.asgi:application"]
    return [sys.executable, "-m", "brokoli_site.web", *daphne]
