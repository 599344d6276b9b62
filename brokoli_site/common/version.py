"""The version of this Brokoli, for all who tell it. A test keeps it equal to pyproject.toml's."""

VERSION = "0.1.0"
