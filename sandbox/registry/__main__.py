"""``python -m sandbox.registry --port P --state DIR``: writes the configuration and becomes docker-registry."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

import yaml

from sandbox.processes import port_is_free


def configuration(port: int, storage: Path) -> dict[str, object]:
    """Debian's own default listens on all interfaces with a password file (reference spinnaker.md, 7.2)."""
    return {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(storage)}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}", "headers": {"X-Content-Type-Options": ["nosniff"]}},
    }


def main() -> int:
    """Never returns when all is well; 1 with one sentence otherwise."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.registry", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True)
    options = parser.parse_args()
    program = shutil.which("docker-registry")
    if program is None:
        print("registry: docker-registry is not installed; run `make setup` (Debian package docker-registry)",
              file=sys.stderr)  # fmt: skip
        return 1
    if not port_is_free(options.port):
        print(f"registry: port {options.port} is in use; set MLFLEET_REGISTRY_PORT to another one", file=sys.stderr)
        return 1
    options.state.mkdir(parents=True, exist_ok=True)
    file = options.state / "config.yml"
    file.write_text(yaml.safe_dump(configuration(options.port, options.state / "storage")))
    return os.execv(program, [program, "serve", str(file)])


if __name__ == "__main__":
    sys.exit(main())
