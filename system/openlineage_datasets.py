"""Assets as datasets of OpenLineage, named by its rules: https://openlineage.io/docs/spec/naming. Nothing of these names is a secret."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings

from brokoli_site.common.errors import BrokoliError
from pipelines.assets.values import Asset
from pipelines.connection_types import base_url
from pipelines.databases.declaring import table_parts
from pipelines.databases.places import CONNECTION_TYPES, Place, of_connection
from pipelines.models import Connection
from pipelines.vault import ConnectionDetails


@dataclass(frozen=True, slots=True)
class Dataset:
    """`namespace` is where it is, `name` what it is called there."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Connections:
    """Those that a pipeline names, as far as they exist."""

    rows: Mapping[str, Connection]

    @classmethod
    def named(cls, names: set[str]) -> "Connections":
        return cls({row.conn_id: row for row in Connection.objects.filter(conn_id__in=sorted(names))} if names else {})

    def dataset(self, asset: Asset) -> Dataset | None:
        """None for an asset that is not known."""
        if not asset.known:
            return None
        match asset.kind:
            case "table":
                return self._table(asset)
            case "api":
                return self._api(asset)
        return self._file(asset)

    def _table(self, asset: Asset) -> Dataset:
        if "://" in asset.place:
            server, _, database = asset.place.rpartition("/")
            return Dataset(server, _qualified(server.partition(":")[0], database, asset.name))
        if asset.place.startswith("sqlite:"):
            return Dataset(f"sqlite://{_absolute(asset.place.removeprefix('sqlite:'))}", asset.name)
        place = self._place(asset.place)
        if place is None:
            return Dataset(f"brokoli://{asset.place}", asset.name)
        if place.kind == "sqlite":
            return Dataset(f"sqlite://{_absolute(place.database)}", asset.name)
        scheme = place.driver.partition("+")[0] or place.kind
        port = f":{place.port}" if place.port else ""
        return Dataset(f"{scheme}://{place.host.lower()}{port}", _qualified(scheme, place.database, asset.name))

    def _place(self, conn_id: str) -> Place | None:
        row = self.rows.get(conn_id)
        if row is None or row.type not in CONNECTION_TYPES:
            return None
        try:
            return of_connection(ConnectionDetails(row.conn_id, row.type, row.host, row.port, row.schema, row.login, "", row.extra))
        except BrokoliError:
            return None

    def _api(self, asset: Asset) -> Dataset:
        url = asset.name
        if asset.place:
            row = self.rows.get(asset.place)
            if row is None:
                return Dataset(f"brokoli://{asset.place}", asset.name)
            url = f"{base_url(row.host, row.port, row.schema)}/{asset.name.lstrip('/')}"
        return _of_url(url)

    def _file(self, asset: Asset) -> Dataset:
        if not asset.place:
            return Dataset("file", _absolute(asset.name))
        row = self.rows.get(asset.place)
        match row.type if row else "":
            case "s3" if row and row.schema:
                return Dataset(f"s3://{row.schema}", asset.name)
            case "sftp" if row:
                return Dataset(f"sftp://{row.host}:{row.port or 22}", "/".join(filter(None, (row.schema.rstrip("/"), asset.name))))
            case "http" if row:
                return _of_url(f"{base_url(row.host, row.port, row.schema)}/{asset.name}")
        return Dataset(f"brokoli://{asset.place}", asset.name)


def _of_url(url: str) -> Dataset:
    try:
        parts = urlsplit(url)
    except ValueError:
        return Dataset("brokoli://api", "unknown")
    return Dataset(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", parts.path or "/")


def _qualified(scheme: str, database: str, table: str) -> str:
    """`shop.public.orders` in PostgreSQL, `shop.orders` in MySQL."""
    try:
        parts = table_parts(table)
    except BrokoliError:
        parts = (table,)
    if scheme == "mysql":
        return ".".join(parts if len(parts) > 1 else filter(None, (database, *parts)))
    own = ("public",) if scheme == "postgres" and len(parts) == 1 else ()
    return ".".join(filter(None, (database if len(parts) < 3 else "", *own, *parts)))


def _absolute(path: str) -> str:
    return path if path.startswith("/") else f"{settings.DATA_DIRS[0]}/{path}"
