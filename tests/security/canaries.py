"""Secrets that are looked for, whole and in pieces, in whatever spelling they may have got into a text.

A canary has no two places alike, so that a piece of it is found by itself: one that was cut off at any place, written backwards, or that lies
within the base64 of something longer.
"""

import base64
import hashlib
from collections.abc import Iterator

_PIECE = 8  # characters: whatever is at least twice as long as that, less one, is found
_HEXADECIMAL_PIECE = 16  # of what is written as hexadecimal numbers: eight digits may be those of an id by chance


def canary(name: str) -> str:
    """A secret of 66 characters that is the same in each process. Quotes and the like stand between its parts, for texts that escape them."""
    digest = hashlib.sha256(f"canary {name}".encode()).hexdigest()
    letters = "".join(chr(ord("g") + int(character, 16)) for character in digest)  # g…v: nothing that looks like hexadecimal of ours
    return f"{letters[:20]}'\"{letters[20:40]}$\\{letters[40:60]}"


def plain(name: str) -> str:
    """The same without characters that would be escaped, for what must be sent in a header or an address."""
    return "".join(character for character in canary(name) if character.isalnum())


class Watch:
    """Looks for these canaries. `piece`: characters, more of them for secrets that look like what else there is, such as hexadecimal numbers."""

    def __init__(self, *secrets: str, piece: int = _PIECE) -> None:
        self._secrets = secrets
        self._pieces = [
            (length, frozenset(spelling[start : start + length] for spelling in spellings for start in range(len(spelling) - length + 1)))
            for length, spellings in (
                (piece, [spelling for secret in secrets for spelling in _spellings(secret)]),
                (max(piece, _HEXADECIMAL_PIECE), [spelling for secret in secrets for spelling in _hexadecimal(secret)]),
            )
        ]

    def seen(self, text: str | bytes) -> list[str]:
        """What was found in `text`, with what is around it."""
        found = text if isinstance(text, str) else text.decode("utf-8", "replace")
        # Pieces begin anywhere in a secret, so it is enough to look at one place in so many of the text.
        starts = [start for length, pieces in self._pieces for start in range(0, len(found), length) if found[start : start + length] in pieces]
        starts += [found.find(secret) for secret in self._secrets if secret in found]
        return [found[max(0, start - 60) : start + 60] for start in starts]


def _spellings(secret: str) -> Iterator[str]:
    """Runs of characters that no way of writing changes, each as it is, backwards, and as codes write it."""
    binary = secret.encode()
    for run in "".join(character if character.isalnum() else " " for character in secret).split():
        yield from (run, run[::-1], run.upper() if not run.isupper() else run, run.encode("utf-16-le").decode())
    yield base64.b32encode(binary).decode().rstrip("=")
    for text in (binary, binary[::-1]):
        for shift in range(3):
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                encoded = encode(b"\0" * shift + text).decode()
                yield encoded[-(-8 * shift // 6) : 8 * (shift + len(text)) // 6]


def _hexadecimal(secret: str) -> Iterator[str]:
    binary = secret.encode()
    yield from (binary.hex(), binary.hex().upper(), binary[::-1].hex(), " ".join(f"{byte:02x}" for byte in binary))
