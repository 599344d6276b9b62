"""Runs in Django's admin. Django imports this package; each module registers its own."""

from runs.admin import backfills, parts, runs

__all__ = ["backfills", "parts", "runs"]
