"""Requests to a store that speaks S3's protocol, signed with AWS Signature Version 4; and the codes by which it refuses them."""

import re
from collections.abc import Mapping

import requests
from requests_aws4auth import AWS4Auth

from pipelines.connection_types import region_of
from pipelines.vault import ConnectionDetails

_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,60})</Code>")


class Signer:
    """Signs for one connection; without a key of its own it leaves requests as they are, for what is public."""

    def __init__(self, details: ConnectionDetails) -> None:
        token = str(details.extra.get("session_token") or "") or None
        self._sign = AWS4Auth(details.login, details.password, region_of(details), "s3", session_token=token) if details.login else None

    def headers(self, method: str, address: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> dict[str, str]:
        """All headers of that request but its `Content-Length`, which whoever sends it knows."""
        prepared = requests.Request(method, address, headers=dict(headers or {}), data=body).prepare()
        if self._sign is not None:
            self._sign(prepared)
        return {
            str(name): value if isinstance(value, str) else value.decode() for name, value in prepared.headers.items() if name != "Content-Length"
        }


def code_in(answer: str) -> str:
    """The code of an error, "" where it says none (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html)."""
    found = _CODE.search(answer)
    return found[1] if found else ""
