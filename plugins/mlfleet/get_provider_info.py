"""What Airflow's provider manager is told: connection types with their form fields, modules by kind, extra links.

The form is built from this dictionary without importing a hook (``conn-fields`` and ``ui-field-behaviour``).
"""

from __future__ import annotations

from typing import Any

SYSTEMS = {
    "polyaxon": "Polyaxon",
    "kfp": "Kubeflow Pipelines",
    "spinnaker": "Spinnaker",
    "container_registry": "Container registry",
}
HOUSE = "mlfleet"
_DOCUMENTATION = {
    SYSTEMS["polyaxon"]: "https://polyaxon.com/docs/",
    SYSTEMS["kfp"]: "https://www.kubeflow.org/docs/components/pipelines/",
    SYSTEMS["spinnaker"]: "https://spinnaker.io/docs/",
    SYSTEMS["container_registry"]: "https://distribution.github.io/distribution/spec/api/",
    HOUSE: "",
}


def _text(label: str, description: str) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": ["string", "null"]}}


_VERIFY = {
    "label": "Verify TLS",
    "description": "Off only for a registry or server with a certificate of its own",
    "schema": {"type": ["boolean", "null"], "default": True},
}


def _connection(conn_type: str, hook: str, relabeling: dict[str, str], hidden: list[str], placeholders: dict[str, str],
                fields: dict[str, Any]) -> dict[str, Any]:  # fmt: skip
    return {
        "connection-type": conn_type,
        "hook-class-name": f"mlfleet.hooks.{conn_type}.{hook}",
        "hook-name": SYSTEMS[conn_type],
        "ui-field-behaviour": {
            "hidden-fields": hidden,
            "relabeling": {"schema": "Scheme (http or https)", **relabeling},
            "placeholders": {"schema": "https", **placeholders},
        },
        "conn-fields": {**fields, "verify_ssl": _VERIFY},
    }


def _connection_types() -> list[dict[str, Any]]:
    return [
        _connection(
            "polyaxon",
            "PolyaxonHook",
            {"password": "API token"},
            ["login"],
            {"host": "polyaxon.example.com", "password": "empty for the community edition"},
            {
                "owner": _text("Owner", "Organisation or user that owns the projects; `default` in the CE"),
                "ui_url": _text("UI address", "Where people open runs, when it differs from the API's address"),
            },
        ),
        _connection(
            "kfp",
            "KFPHook",
            {"password": "Bearer token"},
            ["login"],
            {"host": "kfp.example.com", "password": "empty in single-user mode"},
            {
                "namespace": _text("Namespace", "Profile namespace in multi-user mode; empty in single-user mode"),
                "ui_url": _text("UI address", "Where people open runs, when it differs from the API's address"),
            },
        ),
        _connection(
            "spinnaker",
            "SpinnakerHook",
            {"host": "Gate host"},
            [],
            {"host": "gate.example.com", "password": "password or API token (spk_…)"},
            {
                "deck_url": _text("Deck address", "Where people open executions"),
                "auth": _text("Authentication", "none, basic, token or bearer; chosen by what is filled in when empty"),
            },
        ),
        _connection(
            "container_registry",
            "ContainerRegistryHook",
            {"host": "Registry host"},
            [],
            {"host": "europe-docker.pkg.dev", "login": "oauth2accesstoken, _json_key, AWS or a user"},
            {},
        ),
    ]


def _modules(kind: str, names: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {"integration-name": integration, "python-modules": [f"mlfleet.{kind}.{module}"]}
        for module, integration in names.items()
    ]


def get_provider_info() -> dict[str, Any]:
    """The provider's description in Airflow's format (entry point ``apache_airflow_provider``)."""
    return {
        "package-name": "mlfleet",
        "name": "mlfleet",
        "description": "One manifest per ML project, one DAG per manifest: Polyaxon, KFP, image builds and Spinnaker.",
        "integrations": [
            {"integration-name": name, "external-doc-url": address, "tags": ["service"]}
            for name, address in _DOCUMENTATION.items()
        ],
        "connection-types": _connection_types(),
        "hooks": _modules("hooks", SYSTEMS),
        "operators": _modules(
            "operators",
            {
                "polyaxon": SYSTEMS["polyaxon"],
                "kfp": SYSTEMS["kfp"],
                "data": HOUSE,
                "evaluate": HOUSE,
                "image": SYSTEMS["container_registry"],
                "release": SYSTEMS["container_registry"],
                "spinnaker": SYSTEMS["spinnaker"],
            },
        ),
        "sensors": _modules("sensors", SYSTEMS),
        "triggers": _modules("triggers", SYSTEMS),
        "cli": ["mlfleet.airflow_cli.get_cli_commands"],
        "notifications": ["mlfleet.notifications.webhook.WebhookNotifier"],
        "extra-links": ["mlfleet.links.remote_job.RemoteJobLink"],
    }
