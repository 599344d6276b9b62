"""Keeps secrets that a node was given out of what it says."""

from dataclasses import dataclass

from pipelines.nodes.base import NodeLogger
from pipelines.vault import Vault


@dataclass(frozen=True, slots=True)
class RedactingLog:
    """A node's log without the secrets that its vault has opened. Before lines are cut: half a secret would not be found again."""

    log: NodeLogger
    vault: Vault

    def info(self, message: str) -> None:
        self.log.info(self.vault.redact(message))

    def warning(self, message: str) -> None:
        self.log.warning(self.vault.redact(message))

    def error(self, message: str) -> None:
        self.log.error(self.vault.redact(message))

    def progress(self, fraction: float, message: str = "") -> None:
        self.log.progress(fraction, self.vault.redact(message))
