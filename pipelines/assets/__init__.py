"""What pipelines read and write outside of themselves: files, tables, APIs. Which they are is told of the definition, before anything runs.

`values.py` has the terms, which node types use; `graph.py` makes a pipeline's part of the lineage; `rows.py` keeps it with each version.
"""
