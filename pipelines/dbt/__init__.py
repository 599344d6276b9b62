"""The user's dbt: which program that is, what it is told, and what it says.

- `programs.py` finds the executable.
- `profiles.py` writes a profile from a connection; its password is in the child's environment alone.
- `messages.py` reads dbt's JSON log, `results.py` its `run_results.json` and `manifest.json`.
"""
