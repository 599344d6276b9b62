import pytest
from brokoli_great_circle import GreatCircle

from brokoli_site.common.errors import NodeError
from pipelines.nodes import testing

CONFIG = {"from_latitude": "lat", "from_longitude": "lon", "to_latitude": "to_lat", "to_longitude": "to_lon"}
# Newark to Honolulu, and a place to itself.
PLACES = "SELECT * FROM (VALUES (40.6925, -74.1687, 21.3187, -157.9225), (1.0, 2.0, 1.0, 2.0), (NULL, 0, 0, 0)) t(lat, lon, to_lat, to_lon)"


def test_distances() -> None:
    found = testing.run(GreatCircle(), {**CONFIG, "unit": "mi"}, PLACES)
    assert [column.name for column in found.schema] == ["lat", "lon", "to_lat", "to_lon", "distance"]
    assert [row[-1] for row in found.rows] == [pytest.approx(4962, rel=0.01), 0.0, None]


def test_columns_that_are_not_there_are_named() -> None:
    with pytest.raises(NodeError, match=r"Field 'from_latitude': There is no column 'latt'. Did you mean 'lat'\?"):
        testing.run(GreatCircle(), {**CONFIG, "from_latitude": "latt"}, PLACES)
