"""What looks for secrets finds them, in pieces and in disguise: else that it finds nothing says nothing."""

import base64
import json
from urllib.parse import quote

from tests.security.canaries import Watch, canary, plain


def test_a_canary_is_found_in_any_spelling_and_wherever_it_was_cut() -> None:
    secret = canary("one")
    watch, binary = Watch(secret, plain("two")), secret.encode()
    spellings = [
        secret,
        secret[::-1],
        secret.upper(),
        json.dumps({"a": json.dumps(secret)}),
        repr(binary),
        quote(secret, safe=""),
        binary.hex(),
        binary.hex(" "),
        secret.encode("utf-16-le").decode(),
        base64.b32encode(binary).decode(),
        *(base64.b64encode(b"x" * lead + binary + b"y").decode() for lead in range(4)),
        base64.urlsafe_b64encode(binary[::-1]).decode(),
    ]
    for spelling in spellings:
        assert watch.seen(f"before {spelling} after"), spelling
    halves = [secret[start : start + 17] for start in range(3)] + [secret[-16:], secret[:16], secret[25:41], plain("two")[7:22]]
    for cut in halves:
        for lead in range(9):
            assert watch.seen("." * lead + cut), cut
    assert watch.seen(b"\xff\xfe" + binary) and watch.seen("nothing of theirs " * 1000 + canary("another") + "0123456789abcdef" * 1000) == []


def test_digits_of_an_id_are_no_secret_though_letters_may_be_written_so() -> None:
    secret = canary("one")
    digits = secret.encode().hex()
    watch = Watch(secret)
    for start in range(len(digits) - 16):
        assert watch.seen(f"request {digits[start : start + 8]}77") == []
        assert start + 31 > len(digits) or watch.seen(f"key={digits[start : start + 31]}")
