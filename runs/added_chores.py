"""Chores of the apps above this one, which knows none of them. They register when they start, before there are models: hence names, not functions."""

# Dotted names of functions; each makes a `Chore` for one worker, or None where there is nothing to do.
makers: list[str] = []
