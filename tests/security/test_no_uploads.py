"""No route takes a file: what a client sends is JSON or YAML, read into memory up to a limit; nothing of it becomes a file with a name."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from tests.factories import accept_run

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

DOCUMENTS = {"application/json", "application/yaml", "application/x-yaml", "text/yaml"}
FILES = ["multipart/form-data; boundary=x", "application/octet-stream", "text/csv", "application/vnd.apache.parquet", "application/zip", "image/png"]
FORM = "application/x-www-form-urlencoded"
PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="../../evil.csv"\r\nContent-Type: text/csv\r\n\r\na,b\r\n--x--\r\n'


def views(patterns: list[Any] | None = None, prefix: str = "/") -> Iterator[tuple[str, Any]]:
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        address = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from views(pattern.url_patterns, address)
        elif isinstance(pattern, URLPattern) and address.startswith("/api/"):
            yield address, getattr(pattern.callback, "view_class", None)


def test_every_view_reads_documents_alone() -> None:
    found = dict(views())
    assert len(found) > 50
    for address, view in found.items():
        if address.endswith("/webhook"):
            continue  # other systems name their JSON as they like; it is read as JSON, whatever they call it
        read = {parser.media_type for parser in view.parser_classes}
        assert read <= DOCUMENTS, address


def test_files_are_refused(settings: Any) -> None:
    """By the views that read a body, with words; the others have no use for one."""
    run = accept_run()
    client = Client(headers={"host": "localhost"})
    client.force_login(User.objects.create_superuser("root"))
    calls = {
        "/api/pipelines": "post",
        "/api/pipelines/import": "post",
        "/api/pipelines/validate": "post",
        f"/api/pipelines/{run.pipeline_id}": "put",
        f"/api/pipelines/{run.pipeline_id}/run": "post",
        f"/api/pipelines/{run.pipeline_id}/dry-run": "post",
        "/api/connections": "post",
        "/api/variables": "post",
        "/api/system/purge": "post",
    }
    for (address, method), kind in itertools.product(calls.items(), (*FILES, FORM)):
        answer = client.generic(method.upper(), address, PART, content_type=kind)
        assert (answer.status_code, answer.headers["Content-Type"]) == (415, "application/problem+json"), (address, kind)
    assert not list(settings.HOME.rglob("*evil*"))


def test_forms_of_the_admin_take_none() -> None:
    client = Client(headers={"host": "localhost"})
    client.force_login(User.objects.create_superuser("root"))
    for address in ("/admin/pipelines/variable/add/", "/admin/auth/user/add/", "/admin/login/", "/login"):
        answer = client.post(address, {"file": SimpleUploadedFile("evil.csv", b"a,b"), "key": "x"})
        assert answer.status_code == 400, address


def test_forms_have_a_size() -> None:
    client = Client(headers={"host": "localhost"})
    client.force_login(User.objects.create_superuser("root"))
    for fields, status in (({f"f{number}": "x" for number in range(1001)}, 400), ({"f": "x" * (5 * 1024 * 1024 + 1)}, 400), ({"f": "x"}, 200)):
        assert client.post("/admin/pipelines/variable/add/", fields).status_code == status
