"""Databases that pipelines read from and write to."""
