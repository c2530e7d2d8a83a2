"""What `serve run fastadasp.serving.ray_app:app artifact=FOLDER` starts."""

from __future__ import annotations

from typing import Any


def app(arguments: dict[str, Any]) -> Any:
    """An application of Ray Serve, by the names of `fastadasp.serving.ray.options.KNOWN`.

    Raises:
        RequestError: an unknown name, or a value out of range.
        ArtifactError: the artifact is missing, damaged, or without a tokenizer.
        DependencyError: a package is missing.
    """
    from .ray.cluster import need_ray

    need_ray()
    from .ray.application import application
    from .ray.options import scale_options

    return application(scale_options(arguments))
