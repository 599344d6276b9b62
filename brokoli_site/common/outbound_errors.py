"""What can go wrong with a request to a server that a pipeline names. None of the sentences tells an address, a query or a secret."""

from brokoli_site.common.errors import BrokoliError


class OutboundError(BrokoliError):
    """The request could not be made."""

    status, code = 422, "outbound_failed"


class NotReached(OutboundError):
    """The server could not be reached, or broke off."""

    code, retryable = "not_reached", True


class TooSlow(OutboundError):
    """The server took too long."""

    code, retryable = "too_slow", True


class TooMuch(OutboundError):
    """The server sent more than is read of an answer."""

    code = "too_much"


class BrokenOff(OutboundError):
    """The request was given up."""

    code = "broken_off"
