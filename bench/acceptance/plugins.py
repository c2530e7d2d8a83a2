"""Stage `plugins`: the library is built, loaded and called through TensorRT's interface, without TensorRT."""

from __future__ import annotations

from collections.abc import Iterator

from fastadasp.plugins.build import build_plugins
from fastadasp.plugins.tensorrt_library import NAMESPACE, PLUGINS, VERSION
from fastadasp.profiles.errors import DependencyError

from .plugin_cases import long_cases, small_cases
from .plugin_harness import Harness, open_harness
from .records import HOST, Check, NotHereError
from .stages import Context

BUILT_FOR = 80  # where there is no device


def run(context: Context) -> Iterator[Check]:
    """Every plugin on every case; without a device what can be called without one, and then the reason.

    Raises:
        NotHereError: the library cannot be built here, or `enqueue` was not run.
    """
    try:
        library = build_plugins(context.folder, (context.sm or BUILT_FOR,))
        harness = open_harness(library.path, context.folder)
    except DependencyError as error:
        raise NotHereError(str(error)) from None
    yield _creators(harness)
    small = list(small_cases())
    yield from harness.checks(small)
    calls = len(small)
    for case in long_cases():  # one at a time: the files of all would take 3 GB
        calls += 1
        yield from harness.checks([case])
    if not harness.device:
        raise NotHereError(
            f"enqueue was not run: {harness.why}; built, loaded and called without it in {calls} cases"
        )


def _creators(harness: Harness) -> Check:
    found = sorted((each["name"], each["version"], each["namespace"]) for each in harness.creators)
    wanted = [(name, VERSION, NAMESPACE) for name in sorted(PLUGINS)]
    fault = None if found == wanted else f"they are {found}, {wanted} are expected"
    return Check("creators", found == wanted, HOST, {"creators": harness.creators}, fault)
