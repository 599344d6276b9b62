"""Runs in Django's admin. Django imports this package; each module registers its own."""

from runs.admin import backfills, notifications, parts, pools, runs, schedules

__all__ = ["backfills", "notifications", "parts", "pools", "runs", "schedules"]
