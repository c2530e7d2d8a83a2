"""The benchmark matrix: beams x audio lengths x profiles, the profiles alternating within one process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...profiles.errors import AudioError, RequestError
from ..audio.read import load_audio
from ..decoding.options import ResolvedSearch
from ..environment import PeakMemory, environment
from ..latency import STAGES, Latency
from ..limits import length_limit
from ..prompt import PromptIds
from ..results import GenerationResult
from ..speech_lm import SpeechLM
from .options import BenchmarkOptions
from .records import Benchmark, BenchmarkProtocol, BenchmarkStopped, Case, Spread

LEAST_SECONDS = 1.0  # of counted runs a combination: short runs are repeated more often
MOST_RUNS = 5  # times as many as were asked for
NOISE_LEVEL = 0.1
STOPPED = "stopped by Ctrl-C before a whole round"
NUM_PROMPT_IDS = 20  # stand in for a prompt where the artifact has no tokenizer
FIGURES: dict[str, Callable[[Latency], float | None]] = {
    "request_ms": lambda latency: latency.request_ms,
    "prefill_ms": lambda latency: latency.prefill_ms,
    "decode_ms": lambda latency: latency.decode_ms,
    "decoder_ms": lambda latency: latency.prefill_ms + latency.decode_ms,
    "step_ms": lambda latency: latency.step_ms,
    "rtf": lambda latency: latency.rtf,
    "rtfx": lambda latency: latency.rtfx,
    "tokens_per_second": lambda latency: latency.tokens_per_second,
}

Array = npt.NDArray[np.float32]
Progress = Callable[[str, int, int], None]
"""Called before each run: which combination, runs done, runs in all as far as is known."""


def run_benchmark(
    model: SpeechLM, options: BenchmarkOptions, progress: Progress = lambda *_: None
) -> Benchmark:
    """Measure every combination.

    Args:
        model: loaded with `options.threads`.
        options: the matrix and the protocol.
        progress: called before each run.

    Raises:
        AudioError: the clip cannot be read.
        RequestError: an unknown profile, or options that the search refuses.
        BenchmarkStopped: at Ctrl-C, with the rounds that are whole.
    """
    profiles = options.profiles or model.profiles
    check_profiles(profiles, model)
    before, clip, memory = (
        environment(options.threads),
        sound(model, options.clip, options.audio_seconds),
        PeakMemory(),
    )
    ticker = _Ticker(progress, options, len(profiles))
    groups = [
        _Group(model, options, [Case(beams, seconds, name) for name in profiles], clip, memory, ticker)
        for seconds, beams in product(options.audio_seconds, options.beams)
    ]
    stopped = False
    try:
        for group in groups:
            group.measure()
    except KeyboardInterrupt:
        stopped = True
    artifact = {**model.artifact.identity(), "device": model.device}
    results = tuple(case for group in groups for case in group.results())
    found = Benchmark(artifact, _protocol(options, profiles, memory), before, results)
    if stopped:
        raise BenchmarkStopped(found)
    return found


def repeat(clip: Array, seconds: float, sample_rate: int) -> Array:
    """A clip (n,) repeated and cut to so many seconds."""
    wanted = max(1, round(seconds * sample_rate))
    return np.tile(clip, math.ceil(wanted / len(clip)))[:wanted]


def spread(values: Iterable[float | None]) -> Spread | None:
    """Median, p10 and p90, which a single value does not have; None where no value is there."""
    numbers = [value for value in values if value is not None]
    if not numbers:
        return None
    if len(numbers) == 1:
        return Spread(numbers[0])
    p10, median, p90 = np.percentile(numbers, (10, 50, 90)).tolist()
    return Spread(median, p10, p90)


class _Ticker:
    """Counts runs for the progress bar."""

    def __init__(self, progress: Progress, options: BenchmarkOptions, num_profiles: int) -> None:
        self._progress, self.done = progress, 0
        groups = len(options.beams) * len(options.audio_seconds)
        self.total = groups * num_profiles * (options.warmup + options.runs)

    def __call__(self, case: Case) -> None:
        self._progress(case.label, self.done, self.total)
        self.done += 1


@dataclass(frozen=True)
class _Run:
    """A counted run."""

    latency: Latency
    kept_ratio: float
    kv_bytes: int
    peak: int | None  # bytes of resident memory, where this platform reports them


class _Group:
    """Combinations that differ in the profile alone, which are run in turns."""

    def __init__(
        self,
        model: SpeechLM,
        options: BenchmarkOptions,
        cases: Sequence[Case],
        clip: Array,
        memory: PeakMemory,
        ticker: _Ticker,
    ) -> None:
        self.model, self.options, self.cases = model, options, cases
        self.clip, self.memory, self.ticker = clip, memory, ticker
        self.skipped = STOPPED  # why there is no round
        self.rounds: dict[str, list[_Run]] = {case.profile: [] for case in cases}

    def measure(self) -> None:
        """Warm up, then count. Audio that the model's positions do not hold is a result, too."""
        begin = self.ticker.done
        try:
            self.audio, last_round = self._audio(), 0.0
            for _ in range(self.options.warmup):
                last_round = self._round()
            rounds = self._rounds(last_round)
            self.ticker.total += (rounds - self.options.runs) * len(self.cases)
            self._count(rounds)
            del self.audio  # no part of the memory of the next group
        except AudioError as error:  # reported by the first run, before it does any work
            runs = self.options.warmup + self.options.runs
            self.ticker.total -= runs * len(self.cases) - (self.ticker.done - begin)
            self.skipped = str(error)

    def results(self) -> list[Case]:
        """What the whole rounds say of each combination; without one, why there is none."""
        if not (rounds := min(map(len, self.rounds.values()))):
            return [_skipped(case, self.skipped) for case in self.cases]
        return [_counted(case, self.rounds[case.profile][:rounds]) for case in self.cases]

    def _audio(self) -> Array:
        """The clip, repeated; refused before it is made where no request could take it."""
        seconds = self.cases[0].audio_seconds
        length_limit(self.model.manifest)("audio array", seconds)
        return repeat(self.clip, seconds, self.model.manifest.front_end.log_mel.sample_rate)

    def _round(self) -> float:
        """One run of every profile that is not counted; its seconds."""
        begin = time.perf_counter()
        for case in self.cases:
            self._run(case)
        return time.perf_counter() - begin

    def _rounds(self, seconds_a_round: float) -> int:
        """As many as asked for, more where they are short."""
        runs = self.options.runs
        if not seconds_a_round:
            return runs
        wanted = math.ceil(LEAST_SECONDS * len(self.cases) / seconds_a_round)
        return max(runs, min(MOST_RUNS * runs, wanted))

    def _count(self, rounds: int) -> None:
        for _, case in product(range(rounds), self.cases):
            self.memory.reset()
            result = self._run(case)
            run = _Run(result.latency, result.kept_ratio, result.kv_bytes, self.memory.read())
            self.rounds[case.profile].append(run)

    def _run(self, case: Case) -> GenerationResult:
        self.ticker(case)
        tokens, prompt = self.options.new_tokens, prompt_of(self.model, self.options.prompt)
        search = ResolvedSearch(num_beams=case.beams, max_new_tokens=tokens, min_new_tokens=tokens)
        return self.model.generate(self.audio, prompt, profile=case.profile, search=search)


def _counted(case: Case, runs: Sequence[_Run]) -> Case:
    latencies = [run.latency for run in runs]
    return Case(
        case.beams,
        case.audio_seconds,
        case.profile,
        runs=len(runs),
        figures={name: spread(map(figure, latencies)) for name, figure in FIGURES.items()},
        stages_ms={name: spread(latency.stages[name] for latency in latencies) for name in STAGES},
        kept_ratio=runs[0].kept_ratio,
        kv_bytes=max(run.kv_bytes for run in runs),
        peak_rss_bytes=max((run.peak for run in runs if run.peak is not None), default=None),
    )


def _skipped(case: Case, reason: str) -> Case:
    return Case(case.beams, case.audio_seconds, case.profile, skipped=reason)


def check_profiles(profiles: Sequence[str], model: SpeechLM) -> None:
    """Refuse those that the artifact does not have (RequestError)."""
    if unknown := [name for name in profiles if name not in model.profiles]:
        known = ", ".join(model.profiles)
        raise RequestError(f"profile {', '.join(unknown)} is not in this artifact; it has: {known}")


def sound(model: SpeechLM, clip: Path | None, audio_seconds: Sequence[float]) -> Array:
    """The samples that are repeated to those lengths: (n,) at the rate of the model; noise without a clip."""
    rate = model.manifest.front_end.log_mel.sample_rate
    if clip is not None:
        return load_audio(clip, rate).samples
    longest = min(max(audio_seconds), model.max_audio_seconds + 1)  # the others are skipped
    noise = np.random.default_rng(0).standard_normal(math.ceil(longest * rate) or 1)
    return (NOISE_LEVEL * noise).astype(np.float32)


def prompt_of(model: SpeechLM, prompt: str | None) -> str | PromptIds | None:
    """What requests ask; ids where there is no text, and nothing that would make ids of it."""
    if prompt is None and not model.artifact.has_tokenizer:
        adapter = np.zeros(1, np.int64) if model.manifest.decoder.has_prompt_adapter else None
        return PromptIds(np.zeros(1, np.int64), np.zeros(NUM_PROMPT_IDS - 1, np.int64), adapter)
    return prompt


def _protocol(options: BenchmarkOptions, profiles: Sequence[str], memory: PeakMemory) -> BenchmarkProtocol:
    asked = asdict(options) | {
        "profiles": tuple(profiles),
        "clip": None if options.clip is None else str(options.clip),
    }
    audio = "seeded noise" if options.clip is None else "the clip, repeated"
    return BenchmarkProtocol(**asked, audio=audio, peak_rss_scope=memory.scope)
