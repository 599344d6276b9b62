"""Workbooks and archives for tests, made by the library that spreadsheets of others are made with too."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import xlsxwriter


def workbook(*sheets: Sequence[Any], names: Sequence[str] = (), options: Mapping[str, Any] | None = None) -> bytes:
    """Sheets of rows of cells. A cell is a value, or `(value, number format)`, or `{"formula": …, "value": …}`, or None."""
    out = io.BytesIO()
    with xlsxwriter.Workbook(out, {"in_memory": True, "strings_to_formulas": False, **(options or {})}) as book:
        for number, rows in enumerate(sheets):
            page = book.add_worksheet(names[number] if number < len(names) else None)
            for row, cells in enumerate(rows):
                for column, cell in enumerate(cells):
                    match cell:
                        case None:
                            continue
                        case {"formula": formula, "value": value}:
                            page.write_formula(row, column, formula, None, value)
                        case {"merge": width, "value": value}:
                            page.merge_range(row, column, row, column + width - 1, value)
                        case (value, shown):
                            page.write(row, column, value, book.add_format({"num_format": shown}))
                        case _:
                            page.write(row, column, cell)
    return out.getvalue()


def with_members(content: bytes, members: Mapping[str, bytes]) -> bytes:
    """The archive with these members in place of its own, or beside them."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            if info.filename not in members:
                new.writestr(info.filename, old.read(info))
        for name, data in members.items():
            new.writestr(name, data)
    return out.getvalue()
