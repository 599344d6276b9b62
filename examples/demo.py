"""The demo: serve, trigger the flights pipeline over HTTP, watch it, show its result, keep serving. `make demo` calls it."""

import argparse
import os
import signal
import sys
import time
from typing import Any

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from brokoli_site import environment
from examples.local_server import Api, LocalServer, ServerError, port_is_free

PIPELINE = "flights-delays"
RESULT_NODE = "delays_by_carrier"
_POLL_SECONDS = 0.1
_ENDED = frozenset({"success", "failed", "cancelled"})
_MARKS = {
    "pending": ("·", "dim"),
    "running": ("▶", "cyan"),
    "success": ("✓", "green"),
    "failed": ("✗", "red"),
    "skipped": ("-", "dim"),
    "cancelled": ("■", "yellow"),
}


def duration(milliseconds: int | None) -> str:
    if milliseconds is None:
        return ""
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def progress(run: dict[str, Any]) -> Table:
    """One line a node: how it stands, its rows, how long it took."""
    table = Table.grid(padding=(0, 2))
    for _ in ("mark", "name", "type"):
        table.add_column()
    for _ in ("rows", "duration"):
        table.add_column(justify="right")
    for node in run["node_runs"]:
        mark, style = _MARKS[node["status"]]
        rows = "" if node["row_count"] is None else f"{node['row_count']:,} rows"
        table.add_row(Text(f"  {mark}", style), Text(node["name"]), Text(node["type"], "dim"), rows, Text(duration(node["duration_ms"]), "dim"))
    return table


def watch(api: Api, console: Console, run_id: str) -> dict[str, Any]:
    """Show the run until it ends; what the API says of it then."""
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            run: dict[str, Any] = api.get(f"/api/runs/{run_id}")
            live.update(progress(run), refresh=console.is_terminal or run["status"] in _ENDED)
            if run["status"] in _ENDED:
                return run
            time.sleep(_POLL_SECONDS)


def result_table(preview: dict[str, Any], width: int) -> Table:
    """The rows as the API gives them, in `width` characters: headings wrap between words, then the widest text is cut, never a number."""
    table = Table(title=f"{PIPELINE} · {RESULT_NODE}, {preview['row_count']} rows", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 0))
    cells = {name: ["" if row[name] is None else str(row[name]) for row in preview["rows"]] for name in preview["columns"]}
    widths = {name: max(map(len, [*name.split("_"), *cells[name]])) for name in preview["columns"]}
    texts = {column["name"] for column in preview["schema"] if column["type"] == "VARCHAR"}
    if texts:
        widest = max(texts, key=lambda name: widths[name])
        excess = sum(widths.values()) + len(widths) + 1 - width
        widths[widest] -= min(max(0, excess), widths[widest] - 1)
    for name in preview["columns"]:
        table.add_column(name.replace("_", " "), justify="left" if name in texts else "right", width=widths[name], overflow="ellipsis")
    for row in zip(*cells.values(), strict=True):
        table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in row))
    return table


def show_failure(api: Api, console: Console, run: dict[str, Any]) -> None:
    console.print(f"[red]The run ended as {run['status']}.[/red] {run.get('error') or ''}")
    for node in run["node_runs"]:
        if node["error"]:
            console.print(Text(f"  {node['name']}: {node['error']}"))
    for entry in api.get(f"/api/runs/{run['id']}/logs")[-5:]:
        console.print(Text(f"  {entry['timestamp']} {entry['level']} {entry['message']}", "dim"))


def perform(server: LocalServer, console: Console) -> bool:
    """Trigger the pipeline and show what comes of it; whether it succeeded."""
    api = Api(server.port)
    pipelines = [pipeline for pipeline in api.get("/api/pipelines") if pipeline["pipeline_id"] == PIPELINE]
    if not pipelines:
        raise ServerError(f"There is no pipeline {PIPELINE!r}: run `manage.py load_examples` first.")
    pipeline = pipelines[0]
    console.print(f"[bold]{pipeline['name']}[/bold]: POST {server.url}/api/pipelines/{pipeline['id']}/run", soft_wrap=True)
    run = watch(api, console, api.post(f"/api/pipelines/{pipeline['id']}/run")["id"])
    console.print()
    if run["status"] == "success":
        console.print(result_table(api.get(f"/api/runs/{run['id']}/nodes/{RESULT_NODE}/preview"), console.width))
        console.print(
            f"Succeeded in {duration(run['duration_ms'])}. The same rows are in examples/output of the data folder, as Parquet and CSV.",
            highlight=False,
        )
    else:
        show_failure(api, console, run)
    console.print()
    for what, path in (
        ("API, to try out", "/api/docs"),
        ("This run", f"/api/runs/{run['id']}"),
        ("Its log", f"/api/runs/{run['id']}/logs/export"),
        ("The run in the admin", f"/admin/runs/run/{run['id']}/change/"),
    ):
        console.print(f"  {what:<24}{server.url}{path}", highlight=False, soft_wrap=True)
    api.close()
    return bool(run["status"] == "success")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--exit", action="store_true", help="end after the result: status 0, or 1 if the run failed")
    options = parser.parse_args()
    console = Console()
    if not port_is_free(options.port):
        console.print(f"[red]Port {options.port} is in use.[/red] Stop what listens there, or choose another: make demo PORT={options.port + 1}")
        return 1
    # A terminal that closes or a supervisor that stops us must not leave the server behind.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    log = environment.load(os.environ)["BROKOLI_HOME"] / "demo.log"
    try:
        with LocalServer(options.port, log) as server:
            succeeded = perform(server, console)
            if not options.exit:
                console.print(f"\nServing on {server.url} until Ctrl-C. The server's log is in {log}.", highlight=False, soft_wrap=True)
                server.wait()
    except KeyboardInterrupt:
        console.print("\nStopped.")
        return 0
    except (ServerError, ConnectionError) as error:
        console.print(Text(str(error), "red"))
        return 1
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
