"""``python -m sandbox.rootfs [make | reference | push]``: see the package's docstring."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sandbox.rootfs.build import Maker
from sandbox.rootfs.image import REPOSITORY, BaseImage
from sandbox.rootfs.push import push
from sandbox.settings import REPOSITORY as HERE
from sandbox.settings import SandboxError


def main(arguments: list[str] | None = None) -> int:
    """Prints the root folder (``make``) or the image's reference; 1 and one sentence when it can't be done."""
    options = _parse(arguments)
    try:
        base = Maker(options.cache.absolute(), options.requirements, options.uv).ensure(options.refresh)
        if options.verb == "make":
            print(base.path)
            return 0
        image = BaseImage(base)
        if options.verb == "push":
            push(image, options.registry)
        print(f"{options.registry}/{REPOSITORY}:{image.tag}")
    except (SandboxError, OSError) as exc:
        print(f"sandbox.rootfs: {exc}", file=sys.stderr)
        return 1
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox.rootfs", description=__doc__)
    parser.add_argument("verb", nargs="?", choices=("make", "reference", "push"), default="make")
    parser.add_argument("--registry", metavar="HOST:PORT", help="plain http; for reference and push")
    parser.add_argument("--cache", type=Path, default=HERE / ".sandbox" / "cache" / "rootfs")
    parser.add_argument("--requirements", type=Path, default=HERE / "sandbox" / "requirements" / "serving.txt")
    parser.add_argument("--uv", type=Path, default=HERE / ".sandbox" / "uv" / "bin" / "uv")
    parser.add_argument("--refresh", action="store_true", help="take the packages that apt offers now")
    options = parser.parse_args(arguments)
    if options.verb != "make" and not options.registry:
        parser.error(f"{options.verb} needs --registry HOST:PORT")
    return options


if __name__ == "__main__":
    sys.exit(main())
