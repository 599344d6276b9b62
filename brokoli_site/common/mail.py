"""One mail through the server of `BROKOLI_EMAIL_URL`: sent once, with what its answer means."""

import contextlib
import smtplib
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.mail import BadHeaderError, EmailMessage, get_connection

LONGEST_SUBJECT = 200
SECONDS = 60.0  # a mail server answers many times, each within the limit of one answer


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went. `again`: it may succeed later. `unsure`: the server may have taken it. `reason` names no address."""

    sent: bool = False
    again: bool = False
    unsure: bool = False
    reason: str = ""


def one_line(text: str) -> str:
    """A subject: one line, whatever the names and the error in it hold."""
    text = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return text if len(text) <= LONGEST_SUBJECT else text[: LONGEST_SUBJECT - 1] + "…"


def send(subject: str, text: str, to: Sequence[str], headers: Mapping[str, str], on_stop: Callable[[Callable[[], None]], None]) -> Outcome:
    """Send it, for `SECONDS` at most. `on_stop` takes what breaks it off. Nothing is raised for what a server does."""
    if not settings.EMAIL_HOST:
        return Outcome(reason="this server has no mail server; its operator can name one in BROKOLI_EMAIL_URL.")
    backend = get_connection()
    found: list[Outcome] = []
    ended = threading.Event()

    def work() -> None:
        try:
            found.append(attempt(EmailMessage(subject, text, settings.DEFAULT_FROM_EMAIL, list(to), headers=dict(headers), connection=backend)))
        finally:
            ended.set()

    def break_off() -> None:
        _shut(backend)
        ended.set()

    threading.Thread(target=work, name="mail", daemon=True).start()  # connecting knows no way to be broken off
    on_stop(break_off)
    ended.wait(SECONDS)
    if found:
        return found[0]
    _shut(backend)
    return Outcome(again=True, unsure=True, reason="the mail server did not answer in time.")


def attempt(message: EmailMessage) -> Outcome:
    """Send one message over its connection, and say what the answer means."""
    try:
        message.send()
    except smtplib.SMTPRecipientsRefused as error:
        codes = [code for code, _ in error.recipients.values()]
        return Outcome(again=any(code < 500 for code in codes), reason=f"the mail server refused the receivers ({', '.join(map(str, codes))}).")
    except smtplib.SMTPResponseException as error:
        return Outcome(again=error.smtp_code < 500, reason=f"the mail server answered {error.smtp_code}.")
    except smtplib.SMTPNotSupportedError:
        return Outcome(reason="the mail server cannot do what BROKOLI_EMAIL_URL asks for.")
    except (smtplib.SMTPException, OSError):
        return Outcome(again=True, unsure=True, reason="the mail server could not be reached, or broke off.")
    except (BadHeaderError, UnicodeError, ValueError):
        return Outcome(reason="the mail cannot be written: a header or an address is not what mail allows.")
    return Outcome(sent=True)


def _shut(backend: Any) -> None:
    sock = getattr(getattr(backend, "connection", None), "sock", None)
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
