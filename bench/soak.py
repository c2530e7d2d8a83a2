"""A model under load for long: memory over time, and each answer against that of the request alone (Linux).

Clients submit requests that differ in profile, beams and length of audio, each as soon as it has its last
answer. The demo is built for it, with clips of its own. The memory that counts is the resident memory of this
process after a first part of the time, and how much a line through it rises.

    python bench/soak.py --seconds 600 -o bench/results/soak.json
"""

from __future__ import annotations

import sys
import tempfile
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from under_load import MOST_GROWTH, answer_figures, conclude, keep_asking, memory, memory_figures, parser_of

from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import load_profile, parse_profile
from fastadasp.runtime import GenerationResult, SpeechLM
from fastadasp.runtime.audio.read import load_audio
from fastadasp.runtime.benchmark.benchmark import repeat
from fastadasp.runtime.environment import environment

DEMO = Path(__file__).parent.parent / "demo"
CLIPS, RATE = ("dates-01", "digits-02", "numbers-03"), 16000
PROFILES = ("full", "dense-constant-50")
H2O = 'method = "h2o"\nschedule = "constant"\nstart_layer = 1\nratio = 0.5\n'
KEPT = 'method = "weighted_merge"\nschedule = "constant"\nstart_layer = 1\nratio = 0.2\npositions = "kept"\n'
BEAMS, SECONDS = (1, 3, 5), (1.5, 3.0, 9.0)
NEW_TOKENS, THREADS = 32, 1
ROUNDING = 1e-4  # that scores may differ by


@dataclass(frozen=True)
class Asked:
    """A request."""

    profile: str
    beams: int
    seconds: float
    clip: str


def main() -> int:
    """Print what was found, and write it if asked; 1 where memory has grown or an answer is another one."""
    parser = parser_of(__doc__)
    parser.add_argument("--max-batch", type=int, default=16)
    options = parser.parse_args()
    before, scores = environment(THREADS), array("d")
    with tempfile.TemporaryDirectory() as scratch, _model(Path(scratch), options.max_batch) as model:
        audio = _audio()
        kinds = [Asked(*each) for each in product(model.profiles, BEAMS, SECONDS, CLIPS)]
        alone = {asked: _answer(model, asked, audio) for asked in kinds}
        print(f"{len(kinds)} requests answered alone", flush=True)
        with memory([psutil.Process()]) as samples:
            told = keep_asking(kinds, lambda: _client(model, audio, alone, scores), options)
    found = {
        **_of_one(memory_figures(samples, options.seconds)),
        **answer_figures(told, options.seconds, "tokens_differ"),
        "largest_score_difference": max(scores, default=0.0),
        "score_difference_bound": ROUNDING,
    }
    mix = {"profiles": model.profiles, "beams": BEAMS, "audio_seconds": SECONDS, "new_tokens": NEW_TOKENS}
    return conclude(found, _checks(found), "flat memory, equal answers", before, options, mix)


def _model(folder: Path, max_batch: int) -> SpeechLM:
    """The demo with profiles of every kind."""
    own = (parse_profile(H2O, "h2o-50", "bench/soak.py"), parse_profile(KEPT, "kept-20", "bench/soak.py"))
    profiles = (*map(load_profile, PROFILES), *own)
    build(DEMO / "model", folder / "ART", BuildOptions(profiles))
    return SpeechLM.load(folder / "ART", threads=THREADS, max_batch=max_batch)


def _audio() -> Mapping[tuple[str, float], np.ndarray[Any, np.dtype[np.float32]]]:
    """Each clip, repeated or cut to each length."""
    clips = {name: load_audio(DEMO / "clips" / f"{name}.flac", RATE).samples for name in CLIPS}
    return {(name, seconds): repeat(clips[name], seconds, RATE) for name, seconds in product(CLIPS, SECONDS)}


def _keywords(asked: Asked) -> dict[str, Any]:
    return {"profile": asked.profile, "num_beams": asked.beams, "max_new_tokens": NEW_TOKENS}


def _answer(model: SpeechLM, asked: Asked, audio: Mapping[tuple[str, float], Any]) -> GenerationResult:
    return model.generate(audio[asked.clip, asked.seconds], "<asr>", **_keywords(asked))


def _client(
    model: SpeechLM,
    audio: Mapping[tuple[str, float], Any],
    alone: Mapping[Asked, GenerationResult],
    scores: array[float],
) -> Callable[[Asked], bool]:
    """One that looks at the tokens of every hypothesis, and notes how far scores are off where they agree."""

    def ask(asked: Asked) -> bool:
        request = model.submit(audio[asked.clip, asked.seconds], "<asr>", **_keywords(asked))
        found, wanted = request.result().hypotheses, alone[asked].hypotheses
        if [each.tokens for each in found] != [each.tokens for each in wanted]:
            return False
        scores.append(max(abs(one.score - other.score) for one, other in zip(found, wanted, strict=True)))
        return True

    return ask


def _of_one(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of the one process that there is, without lists."""
    return {
        name: value[0] if name in ("rss_growth_bytes", "rss_largest_bytes") else value
        for name, value in figures.items()
    }


def _checks(found: Mapping[str, Any]) -> Mapping[str, bool]:
    worst = found["largest_score_difference"]
    return {
        f"memory grew by {found['rss_growth_bytes'] / 1e6:.1f} MB": found["rss_growth_bytes"] > MOST_GROWTH,
        f"{sum(found['tokens_differ'].values())} answers have other tokens": bool(found["tokens_differ"]),
        f"scores differ by {worst:.1e}": worst > ROUNDING,
        f"requests failed: {found['failures']}": bool(found["failures"]),
        "nothing was answered": not found["answered"],
    }


if __name__ == "__main__":
    sys.exit(main())
