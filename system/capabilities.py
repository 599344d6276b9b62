"""What this server understands, for clients that ask before they deploy: the SDK refuses a pipeline that the server could not run.

Names and meanings are the original's. A feature is listed only when a pipeline that uses it runs, and gives the right rows.
"""

from typing import Any, Final

from brokoli_site.common.version import VERSION
from pipelines.nodes import registry
from pipelines.nodes.base import NodeType

# 2.1: edges with a `condition`. 2.2: `interface` of a node, `parameters` of a pipeline.
IR_VERSIONS: Final = ("2.0", "2.1", "2.2")
EXECUTION_FEATURES: Final = (
    "conditional-routing",  # edges that leave a condition carry `condition: true|false`
    "data_intervals",  # `catchup`, and a run for each interval of a schedule
    "pagination-checkpoints",  # `execution` beside `pagination` of source_api: retries of a page
    "task-interface-v1",  # declared `interface` and `parameters`
    "task-parameters-v1",  # their resolved values reach the script as `parameters`
    "union",
)
NODE_CAPABILITIES: Final = ("source", "sink", "compute", "dataset-output")
_OF_CATEGORY: Final = {"source": ("source", "dataset-output"), "sink": ("sink",)}
# Types that do more than their category says.
_OF_TYPE: Final[dict[str, tuple[str, ...]]] = {
    "aggregate": ("compute", "dataset-output"),
    "dbt": ("source", "dataset-output"),
    "filter": ("compute", "dataset-output"),
    "migrate": ("source", "dataset-output"),
    "project": ("compute", "dataset-output"),
    "union": ("compute", "dataset-output"),
    "wait": ("compute", "dataset-output"),
}


def capabilities() -> dict[str, Any]:
    """`{version, ir_version, supported_ir_versions, supported_execution_features, node_capabilities, node_type_capabilities, …}`. No query."""
    return {
        "version": VERSION,
        "ir_version": IR_VERSIONS[0],
        "supported_ir_versions": list(IR_VERSIONS),
        "supported_execution_features": list(EXECUTION_FEATURES),
        "code_languages": ["python"],
        "node_capabilities": list(NODE_CAPABILITIES),
        "node_type_capabilities": {node_type.name: list(_of(node_type)) for node_type in registry.all()},
        "disabled_node_types": [name for name in registry.names() if registry.is_disabled(name)],
    }


def _of(node_type: NodeType) -> tuple[str, ...]:
    return _OF_TYPE.get(node_type.name) or _OF_CATEGORY.get(node_type.category) or ("compute",)
