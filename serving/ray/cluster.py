"""The cluster that this process works with: one that runs already, or Ray on this machine for as long."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...profiles.errors import DependencyError
from ...runtime.backend_options import CpuOptions

if TYPE_CHECKING:
    from ...runtime.runtime_options import RuntimeOptions

ADDRESS, STATISTICS = "RAY_ADDRESS", "RAY_USAGE_STATS_ENABLED"
STORE_BYTES = 100 << 20  # shared memory of a cluster of our own: it holds nothing but clips on their way


def need_ray() -> None:
    """Refuse to go on without Ray.

    Raises:
        DependencyError: it is not installed.
    """
    try:
        import ray  # noqa: F401
    except ImportError:
        raise DependencyError(
            'ray is not installed; this needs it: pip install "fastadasp-export[ray]"'
        ) from None


@contextmanager
def connected(cpus: int) -> Iterator[None]:
    """A connection: the one that there is, one to RAY_ADDRESS, or Ray with `cpus` on this machine.

    What this opens ends with the block. Statistics of use are sent to nobody unless the environment says so.
    """
    import ray

    os.environ.setdefault(STATISTICS, "0")
    if ray.is_initialized():
        yield
        return
    own: dict[str, Any] = {
        "address": "local",
        "num_cpus": cpus,
        "object_store_memory": STORE_BYTES,
        "include_dashboard": False,
    }
    ray.init(logging_level=logging.WARNING, **({} if os.environ.get(ADDRESS) else own))
    try:
        yield
    finally:
        ray.shutdown()


def lost() -> tuple[type[Exception], ...]:
    """What Ray raises where an answer went with the actor that was to give it."""
    from ray import exceptions as of_ray

    return of_ray.RayActorError, of_ray.OutOfMemoryError, of_ray.WorkerCrashedError, of_ray.ObjectLostError


def claimed(runtime: RuntimeOptions) -> dict[str, int]:
    """What an actor with a loaded model takes of its machine, as Ray's options of actors have it."""
    on_cpu = isinstance(runtime.options, CpuOptions)
    return {"num_cpus": max(1, runtime.threads), "num_gpus": 0 if on_cpu else 1}
