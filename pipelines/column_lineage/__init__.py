"""Which columns of its inputs each column of a node's output comes from, told from the SQL that made it.

The terms are those of OpenLineage's column lineage facet: a column's value comes *directly* from the columns that it is computed
of, and *indirectly* from those that decide which rows there are (filters, join keys, groups) or which value is taken. What
cannot be traced is None, never a guess. `docs/lineage.md` describes the facts, ADR 0015 why they come from DuckDB's parser.
"""

from pipelines.column_lineage.facts import Facts, TracedInput, facts_of, identity

__all__ = ["Facts", "TracedInput", "facts_of", "identity"]
