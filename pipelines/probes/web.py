"""HTTP services and S3 stores: asked once, through the guard of `outbound`."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import quote

from django.conf import settings

from brokoli_site.common import outbound
from brokoli_site.common.errors import NodeError
from brokoli_site.common.outbound import Answer, Limits
from pipelines.connection_types import base_url, region_of
from pipelines.probes.found import Found
from pipelines.remote_files.s3_signing import Signer, code_in
from pipelines.vault import ConnectionDetails
from pipelines.web import credentials

_MOST_BYTES = 64 * 1024
_S3_SENTENCES = {
    "NoSuchBucket": "There is no bucket '{bucket}' at this endpoint.",
    "InvalidAccessKeyId": "The store does not know the access key id.",
    "SignatureDoesNotMatch": "The secret access key is not the right one.",
    "AccessDenied": "The store knows the key, and does not let it list the bucket.",
    "PermanentRedirect": "The bucket is at another endpoint; give that endpoint, or the bucket's region.",
    "AuthorizationHeaderMalformed": "The region is not that of the bucket.",
    "ExpiredToken": "The session token has expired.",
    "RequestTimeTooSkewed": "The clocks of this server and of the store differ too much.",
}


def probe_http(details: ConnectionDetails, deadline: float) -> Found:
    """A GET of the base URL. Another path may well answer 404 there; credentials that are refused, and a failing server, are told."""
    with _asked(base_url(details.host, details.port, details.schema) + "/", credentials.of(details), deadline) as answer:
        status = answer.status
        if status in (401, 403):
            raise NodeError(f"The server answers {status}: it does not accept the credentials.")
        if status >= 500:
            raise NodeError(f"The server answers {status}: it has a problem of its own.")
        note = " at its base URL, where there may be nothing" if status >= 400 else ""
        return Found(f"The server answers {status}{note}.", answer.headers.get("Server", ""))


def probe_s3(details: ConnectionDetails, deadline: float) -> Found:
    """A signed listing of one key of the bucket; of the buckets, when none is named."""
    endpoint = base_url(details.host, details.port, "") if details.host else f"https://s3.{region_of(details)}.amazonaws.com"
    address = f"{endpoint}/{quote(details.schema)}?list-type=2&max-keys=1" if details.schema else f"{endpoint}/"
    with _asked(address, Signer(details).headers("GET", address), deadline) as answer:
        body = answer.read(_MOST_BYTES).decode("utf-8", "replace") if answer.status != 200 else ""
        if answer.status != 200:
            raise NodeError(_s3_sentence(answer.status, body, details.schema))
        what = f"The bucket '{details.schema}' can be listed." if details.schema else "The store lists its buckets."
        return Found(what, answer.headers.get("Server", ""))


@contextmanager
def _asked(address: str, headers: Mapping[str, str], deadline: float) -> Iterator[Answer]:
    limits = Limits(seconds=max(0.1, deadline - time.monotonic()), allowed=settings.ALLOWED_NETWORKS)
    with outbound.opened("GET", address, limits=limits, headers=headers) as answer:
        yield answer


def _s3_sentence(status: int, body: str, bucket: str) -> str:
    code = code_in(body)
    if code in _S3_SENTENCES:
        return _S3_SENTENCES[code].format(bucket=bucket)
    return f"The store answers {status}{f' ({code})' if code else ''}."
