"""Runs in Django's admin. Django imports this package; each module registers its own."""

from runs.admin import parts, runs

__all__ = ["parts", "runs"]
