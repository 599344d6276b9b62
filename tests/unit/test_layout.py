"""The parts of the product know only the parts below them."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import get_commands

from brokoli_site.common.version import VERSION

ROOT = Path(__file__).resolve().parent.parent.parent
# Each part, and which others it may import.
ALLOWED = {
    "system": {"system", "accounts", "runs", "pipelines", "brokoli_site.common"},
    "runs": {"runs", "pipelines", "brokoli_site.common"},
    "pipelines": {"pipelines", "brokoli_site.common"},
    "accounts": {"accounts", "brokoli_site.common"},
    "brokoli_site/common": {"brokoli_site.common"},
}
# What in `pipelines` may know the database; the rest is pure.
WITH_DATABASE = {
    "models",
    "definitions",
    "audited",
    "admin",
    "admin_forms",
    "apps",
    "api",
    "listing",
    "upstreams",
    "management",
    "guards",
    "stored",
    "object_rules",
    "connections",
    "variables",
    "named_rows",
    "used_by",
    "sealing",
    "webhooks",
    "rows",
    "search_terms",
}
OURS = ("brokoli_site", "accounts", "pipelines", "runs", "system", "tests", "bench", "examples")


def modules(part: str) -> list[Path]:
    return [path for path in sorted((ROOT / part).rglob("*.py")) if "migrations" not in path.parts]


def part_of(module: str) -> str | None:
    """`runs` of `runs.api.views`; None for what is not ours."""
    names = module.split(".")
    if names[0] not in OURS:
        return None
    return ".".join(names[:2]) if names[0] == "brokoli_site" else names[0]


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute here"
            # `from brokoli_site import common` imports the package that it names, too.
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("part", ALLOWED)
def test_imports_go_down_only(part: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in modules(part)
        for line, module in imports(ast.parse(path.read_text()))
        if part_of(module) is not None and part_of(module) not in ALLOWED[part]
    ]

    assert modules(part), f"{part} has no modules: this test looks in the wrong place"
    assert wrong == []


@pytest.mark.parametrize("part", [*ALLOWED, "brokoli_site"])
def test_no_import_of_ours_hides_in_a_function(part: str) -> None:
    hidden = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in modules(part)
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for line, module in imports(function)
        if part_of(module) is not None
    ]

    assert hidden == []


def test_what_is_said_of_pipelines_needs_no_database() -> None:
    """The definition of a pipeline and its nodes can be read, checked and explained without Django's ORM."""
    pure = [path for path in modules("pipelines") if not set(path.relative_to(ROOT / "pipelines").with_suffix("").parts) & WITH_DATABASE]
    touching = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in pure
        for line, module in imports(ast.parse(path.read_text()))
        if module.startswith(("django.db", "django.contrib", "pipelines.models", "pipelines.definitions", "rest_framework"))
    ]

    assert len(pure) > 5
    assert touching == []


def test_there_is_one_version() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION == settings.SPECTACULAR_SETTINGS["VERSION"]


def test_runs_stands_before_channels() -> None:
    apps = list(settings.INSTALLED_APPS)

    assert apps.index("runs") < apps.index("channels")


def test_runworker_is_ours_not_that_of_channels() -> None:
    assert get_commands()["runworker"] == "runs"
    assert (get_commands()["createsuperuser"], get_commands()["changepassword"]) == ("system", "system")
