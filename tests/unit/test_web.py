"""The web server's own parts."""

from brokoli_site.web import BoundedRequest


def test_each_status_has_its_name() -> None:
    request = BoundedRequest.__new__(BoundedRequest)  # without a connection, which this says nothing of
    request.setResponseCode(429)

    assert request.code_message == b"Too Many Requests"
