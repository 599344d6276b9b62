"""A server that others can reach needs somebody who may log in, and a key that the operator chose. Asked by whatever starts one."""

import ipaddress
import os

from django.contrib.auth import get_user_model


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches what listens on this address."""
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return address == "localhost"


def fault(host: str) -> str | None:
    """Why the server may not listen on this address; None where it may."""
    if is_loopback(host):
        return None
    shown = host or "an address that is not known"
    if not get_user_model()._default_manager.exists():
        return f"{shown} can be reached by others and there is no user yet: run `manage.py createsuperuser` first."
    if not os.environ.get("BROKOLI_SECRET_KEY"):
        return f"{shown} can be reached by others: set BROKOLI_SECRET_KEY to a secret of 32 characters or more."
    return None
