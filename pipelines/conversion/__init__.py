"""Files that DuckDB does not read, made into Parquet: workbooks (xlsx, xls, ods) and XML.

```
worker ──▶ process with a memory limit: child.py ──▶ workbooks.py or xml_records.py ──▶ tables.py ──▶ Parquet parts
   ▲                                                                                                │
   └─ converting.py reads them, with the types that were found ◀────────────────────────────────────┘
```

Both kinds come from anybody and are read by parsers that hold what the file makes them hold, one of them in native code that ends its
process when memory runs out. So a run reads them in a child (`pipelines/processes`), which has a limit; a dry run is such a process itself.

All but `converting.py` execute in the child too. They import nothing of ours but each other.
"""
