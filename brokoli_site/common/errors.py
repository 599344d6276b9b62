"""The root of Brokoli's own errors. An error class carries the decision: may it be retried, and what does a client see."""


class BrokoliError(Exception):
    """Something went wrong in Brokoli."""

    # The docstring is the default message, so a class is documented and says something useful by itself.
    status = 500  # HTTP status, when it reaches a client
    code = "error"  # stable name for programs
    retryable = False  # may the same work succeed when tried again?

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__class__.__doc__ or "").strip().split("\n")[0])

    @property
    def message(self) -> str:
        return str(self.args[0])


class NotFound(BrokoliError):
    """No such object."""

    status, code = 404, "not_found"


class Conflict(BrokoliError):
    """The object is in a state that does not allow this."""

    status, code = 409, "conflict"


class PreconditionFailed(BrokoliError):
    """The object was changed by somebody else; read it again and repeat the change."""

    status, code = 412, "precondition_failed"


class BadRequest(BrokoliError):
    """The request is malformed."""

    status, code = 400, "bad_request"

    def __init__(self, message: str | None = None, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer  # JSON Pointer (RFC 6901) of the value at fault, or "" for the whole body


class TooLarge(BrokoliError):
    """The body is too large."""

    status, code = 413, "too_large"


class Unavailable(BrokoliError):
    """The server cannot do this right now; try again in a moment."""

    status, code, retryable = 503, "unavailable", True


class OutOfTime(BrokoliError):
    """The server ended this because it took too long."""

    status, code = 504, "timeout"


class NodeError(BrokoliError):
    """The node failed."""

    status, code = 422, "node_failed"


class TransientNodeError(NodeError):
    """The node failed for a reason that may pass."""

    code, retryable = "node_failed_transient", True


class NodeTimeout(NodeError):
    """The node took longer than its timeout allows."""

    code, retryable = "node_timeout", True


class NodeCancelled(NodeError):
    """The node was stopped because its run was cancelled."""

    code = "node_cancelled"
