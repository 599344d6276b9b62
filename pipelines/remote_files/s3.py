"""Files in an S3 bucket: requests signed with AWS Signature Version 4, through the guarded client.

The protocol is that of https://docs.aws.amazon.com/AmazonS3/latest/API/: ListObjectsV2, GetObject, PutObject, and for large files a
multipart upload, which is seen with its completion alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Self
from urllib.parse import quote, unquote, urlencode
from xml.etree.ElementTree import Element  # the type alone; what is read goes through defusedxml

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from brokoli_site.common.errors import BrokoliError, NodeError, TransientNodeError
from brokoli_site.common.outbound import Answer, Client
from pipelines.connection_types import base_url, region_of
from pipelines.nodes.base import Stop
from pipelines.remote_files.connecting import connected
from pipelines.remote_files.folder import MAGIC, MOST_ENTRIES, MOST_FILES, RemoteFile, matches, missing, parts_of, too_large, too_many
from pipelines.remote_files.s3_signing import Signer, code_in
from pipelines.vault import ConnectionDetails

PART_BYTES = 16 * 1024**2  # of an upload; S3 takes 10,000 parts
_MOST_ANSWER = 16 * 1024**2
_MOST_PAGES = 1_000  # of a listing; S3 names a thousand objects on each, but a page may as well be empty
_SENTENCES = {
    "NoSuchBucket": "there is no such bucket at this endpoint",
    "InvalidAccessKeyId": "the store does not know the access key id",
    "SignatureDoesNotMatch": "the secret access key is not the right one",
    "AccessDenied": "the key may not do this",
    "PermanentRedirect": "the bucket is in another region; set `region` of the connection",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set `region` of the connection",
    "ExpiredToken": "the session token has expired",
    "RequestTimeTooSkewed": "the clocks of this server and of the store differ too much",
}


class Bucket:
    """Implements `folder.RemoteFolder`. Keys are the paths, below the prefix that the connection's `schema` may have (`bucket/prefix`)."""

    def __init__(self, client: Client, details: ConnectionDetails) -> None:
        self._client = client
        self._name, _, prefix = details.schema.strip("/").partition("/")
        if not self._name:
            raise NodeError(f"The connection '{details.conn_id}' names no bucket; set its `schema`.")
        self._prefix = f"{prefix}/" if prefix else ""
        self._address = _address(details, self._name, region_of(details))
        self._signer = Signer(details)

    @classmethod
    @contextmanager
    def opened(cls, details: ConnectionDetails, stop: Stop) -> Iterator[Self]:
        with connected(stop) as client:
            yield cls(client, details)

    def find(self, path: str) -> Sequence[RemoteFile]:
        parts = parts_of(path)
        if not MAGIC.search(path):
            return [RemoteFile("/".join(parts))]
        fixed = "/".join(parts[: next(place for place, part in enumerate(parts) if MAGIC.search(part))])
        found: list[RemoteFile] = []
        for looked, one in enumerate(self._listed(f"{fixed}/" if fixed else "", path)):
            if looked >= MOST_ENTRIES or len(found) > MOST_FILES:
                raise too_many(path)
            if matches(one.path.split("/"), parts):
                found.append(one)
        if not found:
            raise missing(path)
        return sorted(found, key=lambda one: one.path)

    def fetch(self, file: RemoteFile, target: BinaryIO, most_bytes: int, check: Callable[[], None]) -> None:
        if file.size is not None and file.size > most_bytes:
            raise too_large(file.path, most_bytes)
        # What is stored packed stays so: the reader unpacks it, bounded.
        with self._asked("GET", self._key(file.path), {}, file.path, headers={"Accept-Encoding": "identity"}) as answer:
            count = 0
            for chunk in answer.chunks(most_bytes):
                check()
                count += len(chunk)
                target.write(chunk)
            length = answer.headers.get("Content-Length", "")
            if length.isdecimal() and "Content-Encoding" not in answer.headers and count < int(length):
                raise TransientNodeError(f"'{file.path}' was cut off after {count:,} of {int(length):,} bytes.")

    def store(self, source: Path, path: str, check: Callable[[], None]) -> None:
        key = self._key("/".join(parts_of(path)))
        with source.open("rb") as file:
            first = file.read(PART_BYTES)
            if len(first) < PART_BYTES:
                check()
                self._done("PUT", key, {}, path, first)
            else:
                self._store_parts(file, first, key, path, check)

    def _store_parts(self, file: BinaryIO, first: bytes, key: str, path: str, check: Callable[[], None]) -> None:
        upload = _text(self._done("POST", key, {"uploads": ""}, path)[1], "UploadId")
        try:
            marks: list[str] = []
            part = first
            while part:
                check()
                headers, _ = self._done("PUT", key, {"partNumber": str(len(marks) + 1), "uploadId": upload}, path, part)
                marks.append(headers.get("ETag", ""))
                part = file.read(PART_BYTES)
            listed = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{mark}</ETag></Part>" for number, mark in enumerate(marks, start=1))
            check()
            self._complete(f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode(), upload, key, path)
        except BaseException:
            with suppress(BrokoliError):
                self._done("DELETE", key, {"uploadId": upload}, path)
            raise

    def _complete(self, body: bytes, upload: str, key: str, path: str) -> None:
        _, answer = self._done("POST", key, {"uploadId": upload}, path, body)
        if b"<Error>" in answer:  # the one call that answers 200 first and may fail then
            raise TransientNodeError(f"'{path}' was not written: {_reason(500, answer.decode('utf-8', 'replace'))}.")

    def _listed(self, prefix: str, shown: str) -> Iterator[RemoteFile]:
        token = ""
        for _ in range(_MOST_PAGES):
            query = {"list-type": "2", "encoding-type": "url", "prefix": self._prefix + prefix}
            _, body = self._done("GET", "", query | ({"continuation-token": token} if token else {}), shown)
            page = _parsed(body)
            for one in _all(page, "Contents"):
                key = unquote(_child(one, "Key"))
                if not key.endswith("/"):
                    size = _child(one, "Size")
                    yield RemoteFile(key.removeprefix(self._prefix), int(size) if size.isdecimal() else None)
            token = _child(page, "NextContinuationToken")
            if _child(page, "IsTruncated") != "true" or not token:
                return
        raise too_many(shown)

    def _key(self, path: str) -> str:
        return self._prefix + path

    def _done(self, method: str, key: str, query: Mapping[str, str], shown: str, body: bytes | None = None) -> tuple[Mapping[str, str], bytes]:
        with self._asked(method, key, query, shown, body) as answer:
            return answer.headers, answer.read(_MOST_ANSWER)

    @contextmanager
    def _asked(
        self, method: str, key: str, query: Mapping[str, str], shown: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[Answer]:
        """Errors: `NodeError` for any answer but success."""
        address = f"{self._address}/{quote(key, safe='/~')}" + (f"?{urlencode(query, quote_via=quote)}" if query else "")
        with self._client.opened(method, address, headers=self._signer.headers(method, address, headers, body), body=body) as answer:
            if answer.status not in (200, 204, 206):
                text = answer.read(_MOST_ANSWER).decode("utf-8", "replace")
                raise _failure(answer.status, text, shown, self._name)
            yield answer


def _address(details: ConnectionDetails, bucket: str, region: str) -> str:
    """With an endpoint of its own the bucket is the first part of the path, as every server takes it; at AWS it is a part of the host."""
    if details.host:
        return f"{base_url(details.host, details.port, '')}/{quote(bucket)}"
    return f"https://{bucket}.s3.{region}.amazonaws.com" if "." not in bucket else f"https://s3.{region}.amazonaws.com/{quote(bucket)}"


def _failure(status: int, text: str, shown: str, bucket: str) -> NodeError:
    if status == 404 and "NoSuchBucket" not in text:
        return missing(shown)
    kind = TransientNodeError if status in (408, 429) or status >= 500 else NodeError
    return kind(f"'{shown}' in bucket '{bucket}': {_reason(status, text)}.")


def _reason(status: int, text: str) -> str:
    code = code_in(text)
    return _SENTENCES.get(code, f"the store answers {status}{f' ({code})' if code else ''}")


def _parsed(body: bytes) -> Element:
    try:
        found: Element = fromstring(body, forbid_dtd=True)
    except (ParseError, DefusedXmlException) as error:
        raise NodeError("The store's answer is not what S3 answers.") from error
    return found


def _text(body: bytes, name: str) -> str:
    return _child(_parsed(body), name)


def _all(parent: Element, name: str) -> list[Element]:
    return [one for one in parent if one.tag.rpartition("}")[2] == name]


def _child(parent: Element, name: str) -> str:
    return next((one.text or "" for one in _all(parent, name)), "")
