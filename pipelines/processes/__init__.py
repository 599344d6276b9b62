"""Child processes of nodes: started clean, limited, and ended with everything that they started.

```
worker ──exec──▶ fork server ──fork──▶ supervisor ──fork──▶ script or command ──▶ whatever it starts
   ▲   control socket, stdout, stderr      │
   └───────────────────────────────────────┘
```

- `running.py` is the worker's side: it starts the fork server (one an interpreter), hands it a job and reads what is printed.
- `forkserver.py` is a clean process with one thread and `pyarrow` imported; forking it costs milliseconds.
- `supervisor.py` is one process a job. It is a *subreaper*: a process that left its parent, its group or its session becomes its
  child, so it has no descendants left exactly when it has no children. It ends them all when the job ends, when it is told to
  stop, when a limit is exceeded, and when the worker is gone or silent.
- `script.py` runs a `code` node's script; `tables.py` turns rows into Arrow tables and back.
- `leavings.py` reads in the worker what a script left, whatever that is.

All but `running.py`, `lines.py` and `leavings.py` execute outside the worker. They import nothing of ours but each other: no Django, no DuckDB
(an instance of it that is freed after a fork brings the process down), no settings.
"""
