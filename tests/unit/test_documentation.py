"""Pages that repeat what the code says, say the same."""

import re

from docs.generate import (
    ACCOUNTS,
    CONFIGURATION,
    NODE_TYPES,
    ROUTES,
    accounts_page,
    configuration_page,
    node_types_page,
    routes_page,
)

ROOT = CONFIGURATION.parent.parent


def test_the_table_of_the_configuration_is_the_current_one() -> None:
    page = CONFIGURATION.read_text()

    assert page == configuration_page(page), "run `make docs`"


def test_the_table_of_the_roles_is_the_current_one() -> None:
    page = ACCOUNTS.read_text()

    assert page == accounts_page(page), "run `make docs`"


def test_the_reference_of_node_types_is_the_current_one() -> None:
    assert NODE_TYPES.read_text() == node_types_page(), "run `make docs`"


def test_the_reference_of_routes_is_the_table_of_the_sweep() -> None:
    assert ROUTES.read_text() == routes_page(), "run `make docs`"


def test_every_decision_is_in_the_list_of_decisions() -> None:
    folder = ROOT / "docs" / "adr"
    records = sorted(path.name for path in folder.glob("0*.md"))

    assert re.findall(r"\]\((0[^)]+)\)", (folder / "README.md").read_text()) == records
    for name in records:
        first_line = (folder / name).read_text().splitlines()[0]
        assert first_line.startswith(f"# {name[:4]}: ")


def test_links_between_the_pages_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text())
        if not target.startswith("http") and not (page.parent / target).exists()
    ]

    assert pages and broken == []
