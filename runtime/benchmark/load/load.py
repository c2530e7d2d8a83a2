"""The load bench: every load x every profile, requests submitted to one model while others run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import product

import numpy as np
import numpy.typing as npt

from ...decoding.options import ResolvedSearch
from ...environment import PeakMemory, environment
from ...limits import length_limit
from ...prompt import PromptIds
from ...speech_lm import SpeechLM
from ..benchmark import check_profiles, prompt_of, repeat, sound
from .arrivals import (
    Arrival,
    MonotonicClock,
    Submitted,
    closed_arrivals,
    open_arrivals,
    poisson,
    until,
)
from .options import Level, LoadOptions
from .records import TIMES, LoadBenchmark, LoadCase, LoadProtocol, LoadStopped, Percentiles

CLOCK = MonotonicClock()

Progress = Callable[[str, int, int], None]
"""Called after each request: which load, requests ended, of how many as far as is known."""


def run_load(model: SpeechLM, options: LoadOptions, progress: Progress = lambda *_: None) -> LoadBenchmark:
    """Measure every load.

    Args:
        model: loaded with `options.threads` and `options.max_batch`.
        options: the loads and the protocol.
        progress: called after each request.

    Raises:
        AudioError: the clip cannot be read, or a length is more than the model can hear.
        RequestError: an unknown profile, or options that the search refuses.
        LoadStopped: at Ctrl-C, with the loads that had ended.
    """
    profiles = options.profiles or model.profiles
    check_profiles(profiles, model)
    before, memory = environment(options.threads), PeakMemory()
    requests = _Requests(model, options)
    cases, stopped = list[LoadCase](), False
    try:
        for level, profile in product(options.levels, profiles):
            requests.warm_up(profile)
            cases.append(_measure(level, profile, options, requests, memory, progress))
    except KeyboardInterrupt:
        stopped = True
    artifact = {**model.artifact.identity(), "device": model.device}
    found = LoadBenchmark(artifact, _protocol(options, profiles, memory), before, tuple(cases))
    if stopped:
        raise LoadStopped(found)
    return found


class _Requests:
    """What is asked: request i is the same under every load and profile."""

    def __init__(self, model: SpeechLM, options: LoadOptions) -> None:
        self._model, self._options = model, options
        self._prompt: str | PromptIds | None = prompt_of(model, options.prompt)
        self._audio = _audio(model, options)
        self._kinds = tuple(product(options.beams, options.audio_seconds))

    def kind(self, index: int) -> tuple[int, float]:
        """Beams and seconds of audio."""
        dice = np.random.default_rng((self._options.seed, index))
        return self._kinds[int(dice.integers(len(self._kinds)))]

    def send(self, profile: str, index: int) -> Submitted:
        """Submit it."""
        beams, seconds = self.kind(index)
        tokens = self._options.new_tokens
        search = ResolvedSearch(num_beams=beams, max_new_tokens=tokens, min_new_tokens=tokens)
        return self._model.submit(self._audio[seconds], self._prompt, profile=profile, search=search)

    def warm_up(self, profile: str) -> None:
        """Requests that are not counted; one that fails tells why before any load."""
        for under_way in [self.send(profile, i) for i in range(self._options.warmup)]:
            under_way.result()


def _audio(model: SpeechLM, options: LoadOptions) -> Mapping[float, npt.NDArray[np.float32]]:
    """Samples of each length."""
    check = length_limit(model.manifest)
    for seconds in options.audio_seconds:
        check("audio array", seconds)
    clip, rate = (
        sound(model, options.clip, options.audio_seconds),
        model.manifest.front_end.log_mel.sample_rate,
    )
    return {seconds: repeat(clip, seconds, rate) for seconds in options.audio_seconds}


def _measure(
    level: Level,
    profile: str,
    options: LoadOptions,
    requests: _Requests,
    memory: PeakMemory,
    progress: Progress,
) -> LoadCase:
    ticker = _Ticker(f"{profile}, {level.label}", options.num_requests or 0, progress)
    memory.reset()
    cpu = time.process_time()
    ask = lambda i: requests.send(profile, i)  # noqa: E731
    if level.arrivals == "open":
        times = until(poisson(level.value, options.seed), options.num_requests, options.seconds)
        found = open_arrivals(times, ask, CLOCK, ticker)
    else:
        ends = {"requests": options.num_requests, "seconds": options.seconds}
        found = closed_arrivals(int(level.value), ask, CLOCK, **ends, ended=ticker)  # type: ignore[arg-type]
    return load_case(level, profile, found, time.process_time() - cpu, memory.read())


class _Ticker:
    """Counts requests for the progress bar."""

    def __init__(self, label: str, total: int, progress: Progress) -> None:
        self._label, self._total, self._progress, self._done = label, total, progress, 0
        progress(label, 0, total)

    def __call__(self) -> None:
        self._done += 1
        self._progress(self._label, self._done, max(self._total, self._done))


def load_case(
    level: Level, profile: str, found: Sequence[Arrival], cpu_seconds: float, peak: int | None = None
) -> LoadCase:
    """The figures of a load from its requests."""
    answered = [arrival for arrival in found if arrival.result is not None]
    results = [arrival.result for arrival in answered if arrival.result is not None]
    first = min((arrival.due for arrival in found), default=0.0)
    seconds = max((arrival.end for arrival in answered), default=first) - first
    per_second = 1 / seconds if seconds else 0.0
    return LoadCase(
        profile,
        level.arrivals,
        clients=int(level.value) if level.arrivals == "closed" else None,
        rate=float(level.value) if level.arrivals == "open" else None,
        answered=len(answered),
        failures=dict(Counter(arrival.error for arrival in found if arrival.error)),
        seconds=seconds,
        requests_per_second=len(results) * per_second,
        audio_seconds_per_second=sum(result.audio_seconds for result in results) * per_second,
        tokens_per_second=sum(result.latency.output_tokens for result in results) * per_second,
        cpu_ms_per_request=cpu_seconds * 1e3 / len(results) if results else None,
        times={name: Percentiles.of(map(time_of, answered)) for name, time_of in TIME_OF.items()},
        peak_rss_bytes=peak,
    )


def _request_ms(arrival: Arrival) -> float | None:
    return arrival.late_ms + arrival.result.latency.request_ms if arrival.result else None


def _first_token_ms(arrival: Arrival) -> float | None:
    first = arrival.result.latency.first_token_ms if arrival.result else None
    return None if first is None else arrival.late_ms + first


def _step_ms(arrival: Arrival) -> float | None:
    return arrival.result.latency.step_ms if arrival.result else None


def _wait_ms(arrival: Arrival) -> float | None:
    if not arrival.result:
        return None
    latency = arrival.result.latency
    return arrival.late_ms + max(0.0, latency.request_ms - sum(latency.stages.values()))


TIME_OF: Mapping[str, Callable[[Arrival], float | None]] = {
    "request_ms": _request_ms,
    "first_token_ms": _first_token_ms,
    "step_ms": _step_ms,
    "wait_ms": _wait_ms,
}
assert TIME_OF.keys() == TIMES.keys()


def _protocol(options: LoadOptions, profiles: Sequence[str], memory: PeakMemory) -> LoadProtocol:
    asked = asdict(options) | {
        "profiles": tuple(profiles),
        "clip": None if options.clip is None else str(options.clip),
        "requests": options.num_requests,
    }
    audio = "seeded noise" if options.clip is None else "the clip, repeated"
    return LoadProtocol(**asked, audio=audio, peak_rss_scope=memory.scope, times=TIMES)
