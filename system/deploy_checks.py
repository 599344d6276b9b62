"""What `manage.py check --deploy` says of a server that others reach, beyond Django's own checks: settings of ours that do not fit together."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name for it


def check_deployment(**_: Any) -> list[CheckMessage]:
    return [*_tls(), *_hosts(), *_proxies()]


def _tls() -> Iterator[CheckMessage]:
    if not settings.HTTPS:
        yield Warning(
            "BROKOLI_HTTPS is not set: passwords, tokens and cookies may cross the network in plain text.",
            hint="Let a proxy end TLS and set BROKOLI_HTTPS=true; docs/deployment.md has an example.",
            id="brokoli.W001",
        )
    elif not settings.TRUSTED_PROXIES:
        yield Warning(
            "BROKOLI_HTTPS is set, and no proxy is trusted: every request will count as plain http, and be sent to https without end.",
            hint="Name the address that your proxy connects from in BROKOLI_TRUSTED_PROXIES, such as 127.0.0.1.",
            id="brokoli.W002",
        )


def _hosts() -> Iterator[CheckMessage]:
    if "*" in settings.ALLOWED_HOSTS:
        yield Error(
            "BROKOLI_ALLOWED_HOSTS has '*': pages of any name that leads here may act as this server's own, over WebSockets too.",
            hint="Name the hosts that people type.",
            id="brokoli.E001",
        )


def _proxies() -> Iterator[CheckMessage]:
    wide = [str(network) for network in settings.TRUSTED_PROXIES.networks if network.prefixlen < 8]
    if wide:
        yield Error(
            f"BROKOLI_TRUSTED_PROXIES has {', '.join(wide)}: nearly anybody could say to be anybody.",
            hint="Name the addresses that your proxies connect from.",
            id="brokoli.E002",
        )
