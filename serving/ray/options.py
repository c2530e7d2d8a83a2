"""What `serve run` is given, as words like `max_replicas=4`, or in a file; checked before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...profiles.errors import RequestError
from ...profiles.faults import count_faults, shown
from ...runtime.choice.target import Auto
from ...runtime.runtime_options import RuntimeKeywords, runtime_options
from ..options import ServeOptions, keys_of

_OF_RUNTIME: Mapping[str, Callable[[Any], Any]] = {"threads": int, "max_batch": int, "max_request_bytes": int}
_OF_SERVER: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("name", "profile", "prompt", "translation_prompt"), str),
    **dict.fromkeys(("max_queue", "max_upload_bytes"), int),
    **dict.fromkeys(("max_audio_seconds", "whole_seconds", "deadline"), float),
}
_OF_AUTO: Mapping[str, Callable[[Any], Any]] = dict.fromkeys(("latency_budget", "accuracy_budget"), float)
_OF_SCALE: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("min_replicas", "max_replicas", "doors", "tries"), int),
    **dict.fromkeys(("target_requests", "upscale_delay", "downscale_delay"), float),
}
_OTHERS = ("artifact", "backend", "api_key_file")
KNOWN = (*_OTHERS, *_OF_RUNTIME, *_OF_SERVER, *_OF_AUTO, *_OF_SCALE)
_COUNTS = {"min_replicas": 1, "max_replicas": 1, "doors": 1, "tries": 1}
MOST = 10_000


@dataclass(frozen=True)
class ScaleOptions:
    """How an artifact is served by a cluster. Raises RequestError with every fault."""

    artifact: Path  # absolute: on every machine of the cluster it is there
    server: ServeOptions  # what is taken; host, port and workers are those of Ray
    min_replicas: int = 1  # of the model
    max_replicas: int = 1  # more than `min_replicas`: as many as the requests need
    target_requests: float | None = None  # under way in a replica; beyond it replicas are added
    upscale_delay: float = 30.0  # seconds that requests are too many before replicas are added
    downscale_delay: float = 600.0  # the same of too few
    doors: int = 1  # replicas of what speaks HTTP
    tries: int = 3  # of a request whose replica has died

    @property
    def target(self) -> float:
        """Requests that a replica should have under way: half of what it takes, if nothing else was said."""
        return self.server.runtime.max_batch / 2 if self.target_requests is None else self.target_requests

    def __post_init__(self) -> None:
        if faults := list(self._faults()):
            raise RequestError("; ".join(faults))

    def _faults(self) -> Iterator[str]:
        yield from count_faults(self, _COUNTS, dict.fromkeys(_COUNTS, MOST))
        if self.min_replicas > self.max_replicas:
            yield f"min_replicas is {self.min_replicas}, more than max_replicas, {self.max_replicas}"
        if not 0 < self.target <= MOST:
            yield f"target_requests is {shown(self.target_requests)}: give a number above 0"
        for name in ("upscale_delay", "downscale_delay"):
            if not 0 <= (seconds := getattr(self, name)) <= MOST:
                yield f"{name} is {shown(seconds)}: give seconds"


def scale_options(given: Mapping[str, Any]) -> ScaleOptions:
    """The options by the names of `KNOWN`; values may be texts.

    Raises:
        RequestError: unknown names, or values that are none.
    """
    if unknown := sorted(set(given) - set(KNOWN)):
        raise RequestError(f"{', '.join(unknown)}: no such option; there are: {', '.join(KNOWN)}")
    if not given.get("artifact"):
        raise RequestError("artifact is missing: give artifact=FOLDER, a path that every machine has")
    keywords: RuntimeKeywords = _read(given, _OF_RUNTIME)  # type: ignore[assignment]
    runtime = runtime_options(str(given.get("backend", "onnxruntime")), **keywords)
    keys = keys_of(Path(given["api_key_file"])) if given.get("api_key_file") else ()
    budgets = _read(given, _OF_AUTO)
    auto = Auto(**budgets) if budgets else None
    server = ServeOptions(runtime=runtime.sharing(1), api_keys=keys, auto=auto, **_read(given, _OF_SERVER))
    scale = _read(given, _OF_SCALE)
    if "min_replicas" in scale:
        scale.setdefault("max_replicas", scale["min_replicas"])
    return ScaleOptions(Path(given["artifact"]).absolute(), server, **scale)


def _read(given: Mapping[str, Any], kinds: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    return {name: _value(name, given[name], kind) for name, kind in kinds.items() if name in given}


def _value(name: str, value: Any, kind: Callable[[Any], Any]) -> Any:
    try:
        return kind(value)
    except (TypeError, ValueError):
        raise RequestError(f"{name} is {shown(value)}: give a number") from None
