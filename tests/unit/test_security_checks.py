"""The page that says which test holds which guard names tests that there are."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "security-checks.md"
_NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def functions_of(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_test_that_the_page_names_exists() -> None:
    named = _NAMED.findall(PAGE.read_text())
    assert len(named) > 40
    known = {path: functions_of(ROOT / path) if (ROOT / path).exists() else set() for path, _ in named}
    assert [f"{path}::{name}" for path, name in named if not known[path] or (name and name not in known[path])] == []


def test_every_guard_that_the_page_names_is_a_module() -> None:
    named = re.findall(r"`((?:brokoli_site|pipelines|runs|system|accounts)/[\w/]+\.py)`", PAGE.read_text())
    assert len(named) > 20
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_each_of_the_ten_checks_has_a_chapter() -> None:
    assert [int(number) for number in re.findall(r"^## (\d+)\. ", PAGE.read_text(), re.MULTILINE)] == list(range(1, 11))
