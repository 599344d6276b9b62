"""The rows of this app."""
