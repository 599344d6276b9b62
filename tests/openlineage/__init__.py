"""What an event of OpenLineage must be: the schema of spec 2-0-2."""

import json
from pathlib import Path
from typing import Any

import jsonschema

_SCHEMA = json.loads((Path(__file__).parent / "run_event_2_0_2.json").read_text())
_VALIDATOR = jsonschema.Draft202012Validator(_SCHEMA, format_checker=jsonschema.FormatChecker())
# What the facets' own schemas require besides.
_REQUIRED = {
    "columnLineage": {"fields"},
    "errorMessage": {"message", "programmingLanguage"},
    "jobType": {"processingType", "integration"},
    "nominalTime": {"nominalStartTime"},
    "outputStatistics": set(),
    "parent": {"run", "job"},
    "processing_engine": {"version"},
    "schema": set(),
}


def check(event: Any) -> None:
    """Errors: `jsonschema.ValidationError`, `AssertionError`."""
    _VALIDATOR.validate(event)
    assert event["schemaURL"] == f"{_SCHEMA['$id']}#/$defs/RunEvent"
    datasets = [*event["inputs"], *event["outputs"]]
    places = [
        event["run"]["facets"],
        event["job"]["facets"],
        *(one["facets"] for one in datasets),
        *(one.get("outputFacets", {}) for one in datasets),
    ]
    for facets in places:
        for name, facet in facets.items():
            assert _REQUIRED[name] <= facet.keys(), (name, facet)
    for lineage in (one["facets"]["columnLineage"] for one in datasets if "columnLineage" in one["facets"]):
        for field in lineage["fields"].values():
            for source in field["inputFields"]:
                assert {"namespace", "name", "field"} <= source.keys()
                assert all(one["type"] in ("DIRECT", "INDIRECT") for one in source["transformations"])
