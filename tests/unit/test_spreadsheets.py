"""What a spreadsheet takes for a formula is the same to Python, to DuckDB and to Arrow."""

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from brokoli_site.common.spreadsheets import FORMULA, NUMBER, harmless

FORMULAS = ["=1+1", "+1+1", "-1-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1+1", "＋1", "－1", "＠A1", "-", "+1\n", "-1,5,5", "-١"]  # noqa: RUF001 - as they look
OTHERS = ["", "1=1", " =1", "'=1", "-5", "+49", "-1.5", "-1,5", "a-1"]


@pytest.mark.parametrize("text", FORMULAS + OTHERS)
def test_all_three_agree(text: str) -> None:
    assert harmless(text) == (f"'{text}" if text in FORMULAS else text)
    sql = "SELECT regexp_matches($1, $2) AND NOT regexp_full_match($1, $3)"
    assert duckdb.execute(sql, [text, FORMULA, NUMBER]).fetchall() == [(text in FORMULAS,)]
    column = pa.array([text])
    risky = pc.and_not(pc.match_substring_regex(column, FORMULA), pc.match_substring_regex(column, f"^{NUMBER}$"))
    assert risky.to_pylist() == [text in FORMULAS]
