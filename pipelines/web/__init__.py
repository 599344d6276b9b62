"""HTTP as nodes use it: where a request goes and with which credentials, retries, pages, and what becomes of an answer. No database of ours."""
