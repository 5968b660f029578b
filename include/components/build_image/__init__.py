"""Builds an image in a cluster with kaniko, pushes it, and outputs its digest. Not run on a cluster here.

    image = build_image(source=clone.outputs["source"], repository="registry.example.com/shop/churn",
                        tag="build-1", registry_secret="registry-writer")
    use(image=f"registry.example.com/shop/churn@{image.outputs['digest']}")

Use what is built by its digest: a tag can be moved. The registry's credentials are a Kubernetes secret with one key,
`config.json`, in Docker's format; kaniko reads them from the folder where they are mounted.
"""

from collections.abc import Mapping
from typing import Any

from kfp import dsl, kubernetes
from kfp.dsl import Artifact, Input, OutputPath

__all__ = ["build_image", "kaniko"]

# A mirror of kaniko's executor: the image has no shell, so the command is the program itself.
IMAGE = "registry.example.com/tools/kaniko-executor:v1.24.0"
# Where kaniko looks for credentials (DOCKER_CONFIG of its image).
CREDENTIALS = "/kaniko/.docker"
# Kaniko empties the file system between stages; what KFP's launcher keeps there must stay.
KEPT = ("/kfp-launcher", "/tmp/kfp", "/gcs", "/minio", "/s3")


def kaniko(build_args: Mapping[str, str] | None = None, labels: Mapping[str, str] | None = None) -> Any:
    """A container component that builds with these arguments and labels, which are fixed when the pipeline is compiled.

    Its inputs and outputs are those of :func:`build_image`'s task. Raises ValueError for a name or value that the
    command line can't carry, or that would be taken for one of KFP's placeholders.
    """
    fixed = [*_pairs("--build-arg", build_args or {}), *_pairs("--label", labels or {})]

    @dsl.container_component
    def build_image(
        source: Input[Artifact],
        repository: str,
        tag: str,
        digest: OutputPath(str),  # type: ignore[valid-type]
        dockerfile: str = "Dockerfile",
        context: str = ".",
    ):
        """Builds a Dockerfile and pushes the image.

        Args:
            source: Folder with the code.
            repository: Registry, port and repository of the image.
            tag: Of the image; use it once.
            digest: Digest of the pushed manifest, sha256 and 64 hex digits.
            dockerfile: Path below the context.
            context: Folder below source that the build sees.
        """
        return dsl.ContainerSpec(
            image=IMAGE,
            command=["/kaniko/executor"],
            args=[
                "--context", f"dir://{source.path}", "--context-sub-path", context,
                "--dockerfile", dockerfile, "--destination", f"{repository}:{tag}",
                "--digest-file", digest, "--reproducible", "--push-retry", "3", *fixed,
                *(word for path in KEPT for word in ("--ignore-path", path)),
            ],
        )  # fmt: skip

    return build_image


def build_image(
    *,
    source: Any,
    repository: Any,
    tag: Any,
    registry_secret: str | None,
    dockerfile: Any = "Dockerfile",
    context: Any = ".",
    build_args: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    retries: int = 2,
) -> dsl.PipelineTask:
    """Adds the build to the pipeline that is being defined; its output is ``digest``.

    ``source``           artifact with the code, as `polyaxon_job`'s *clone* makes it
    ``repository``       registry, port and repository; ``tag`` is used once
    ``registry_secret``  Kubernetes secret with the key ``config.json``; None for a registry that takes anybody's images
    ``dockerfile``       path below ``context``, which is a folder below ``source``
    """
    component = kaniko(build_args, labels)
    task = component(source=source, repository=repository, tag=tag, dockerfile=dockerfile, context=context)
    # The cache would say that an image was pushed which the registry may have lost since.
    task.set_caching_options(False)
    task.set_retry(num_retries=retries, backoff_duration="10s", backoff_factor=2)
    if registry_secret is not None:
        kubernetes.use_secret_as_volume(task, registry_secret, mount_path=CREDENTIALS)
    return task


def _pairs(flag: str, values: Mapping[str, str]) -> list[str]:
    words = []
    for name, value in sorted(values.items()):
        if not name or "=" in name or not name.isprintable() or "{{$" in value or "\n" in value:
            raise ValueError(f"{flag} {name}={value!r}: a name has no '=', a value no line break and no '{{{{$'")
        words += [flag, f"{name}={value}"]
    return words
