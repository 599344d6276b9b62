"""Names and values of headers that a document may give."""

import re

LONGEST_VALUE = 4_000
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
# The connection's own (RFC 9110, 7.6.1), and what we say ourselves.
OURS = frozenset(
    {
        *("host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "expect"),
        *("proxy-authorization", "proxy-authenticate", "proxy-connection", "idempotency-key"),
    }
)


def is_header_name(name: str) -> bool:
    """Whether HTTP has such names."""
    return _NAME.fullmatch(name) is not None


def is_header_value(value: str) -> bool:
    """Whether HTTP carries it as it is: printable, Latin-1, on one line."""
    return len(value) <= LONGEST_VALUE and all(32 <= ord(character) < 256 and not 127 <= ord(character) < 160 for character in value)


def fault(name: str, value: str) -> str:
    """What is wrong with a header, as a sentence without its value; "" when nothing is."""
    if not is_header_name(name):
        return f"'{name[:60]}' is not the name of a header."
    if name.lower() in OURS:
        return f"The header {name} is the server's own and cannot be set."
    if is_header_value(value):
        return ""
    return f"The value of the header {name} is not a text on one line of at most {LONGEST_VALUE:,} Latin characters."
