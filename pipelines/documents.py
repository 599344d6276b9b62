"""Pipeline documents as they are stored: what belongs in one, its defaults, and one spelling for each thing. Pure: no database."""

from collections.abc import Mapping
from typing import Any

from brokoli_site.common.errors import NodeError
from pipelines import webhook_tokens
from pipelines.nodes import registry

# The server's own keys: part of what clients see and send back, never of the stored document.
SERVER_KEYS = frozenset({"id", "pipeline_id", "version", "node_count", "created_at", "updated_at"})
DEFAULTS: Mapping[str, Any] = {
    "name": "",
    "description": "",
    "enabled": True,
    "schedule": "",
    "schedule_timezone": "UTC",
    "tags": [],
    "params": {},
    "nodes": [],
    "edges": [],
}
# Understood too, and kept as they were given: without one, nothing is said about them.
OPTIONAL_KEYS = frozenset(
    {
        "parameters",
        "timeout",
        "max_active_runs",
        "overlap_policy",
        "missed_runs",
        "catchup",
        "depends_on",
        "dependency_rules",
        "hooks",
        "sla_deadline",
        "sla_timezone",
        webhook_tokens.KEY,
    }
)
# Keys that every node takes, in its config or beside it.
NODE_SETTINGS = frozenset({"max_retries", "retry_delay", "retry_backoff", "timeout", "pool"})
NODE_KEYS = frozenset({"id", "type", "name", "config", "position"}) | NODE_SETTINGS
EDGE_KEYS = frozenset({"from", "to", "condition"})


def normalised(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document to store: defaults filled in, aliases replaced, the server's keys and the webhook's token left out, everything else kept.

    Accepts anything: what cannot be read stays as it is, for validation to name. Normalising twice changes nothing.
    """
    found = {key: document[key] if document.get(key) is not None else _fresh(default) for key, default in DEFAULTS.items()}
    if found["schedule_timezone"] == "":
        found["schedule_timezone"] = DEFAULTS["schedule_timezone"]
    if isinstance(found["nodes"], list):
        found["nodes"] = [_node(node) if isinstance(node, Mapping) else node for node in found["nodes"]]
    rest = webhook_tokens.without(document)
    return found | {key: value for key, value in rest.items() if key not in DEFAULTS and key not in SERVER_KEYS}


def merged(document: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 7396: what the patch holds replaces, null removes, objects merge. Depth is bounded by the reader of the body."""
    found = dict(document)
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, Mapping):
            inner = found.get(key)
            found[key] = merged(inner if isinstance(inner, Mapping) else {}, value)
        else:
            found[key] = value
    return found


def _fresh(default: Any) -> Any:
    return type(default)() if isinstance(default, list | dict) else default


def _node(node: Mapping[str, Any]) -> dict[str, Any]:
    found = _settings(node)
    found["name"] = node.get("name") or node.get("id")
    config = node.get("config")
    if config is None:
        found["config"] = {}
    elif isinstance(config, Mapping):
        found["config"] = _settings(_config(node.get("type"), config))
    return found


def _config(type_name: Any, config: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(type_name, str):
        return config
    try:
        return registry.get(type_name).normalise(config)
    except NodeError:
        return config  # an unknown or disabled type; validation says so


def _settings(holder: Mapping[str, Any]) -> dict[str, Any]:
    """`retries` is an alias of `max_retries`, in the config and beside it; the longer name wins."""
    found = dict(holder)
    if "retries" in found:
        retries = found.pop("retries")
        found.setdefault("max_retries", retries)
    return found
