"""Real workers killed, frozen and drained at random while clients trigger runs: `python -m tests.chaos`, `make chaos`."""
