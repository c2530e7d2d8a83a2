"""Whether the decoder's attention tells when the words of an answer begin, by clips of known word times.

    python bench/word_times.py -o bench/results/word_times.json [--sounds FOLDER] [--speech FOLDER]

Clips of the demo's words are put together from recordings of single words, so that every begin is known: its
first sample above 1 % of the peak. The demo model transcribes them under each profile; the torch reference
goes through the same tokens and gives the attention of every head to every row, which the map of the rows
turns into seconds. One half of the clips chooses heads of one layer, the other half is measured. Beside them
stand begins spread evenly over the clip, by the number of words in the answer. The human voice is the same in
both halves; synthetic voices are not.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import numpy.typing as npt

from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.export.reference.model import ReferenceDecoder, load_reference
from fastadasp.profiles import load_profile
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.artifact.artifact import TOKENIZER
from fastadasp.runtime.decoding.word_times import looked_at
from fastadasp.runtime.environment import environment
from fastadasp.runtime.latency import Stopwatch
from fastadasp.runtime.prompt import PromptCodec, tokenizer_of
from fastadasp.runtime.results import GenerationResult

Array = npt.NDArray[Any]
Draw = np.random.Generator
Heads = tuple[int, tuple[int, ...]]  # a layer and some of its heads

ROOT = Path(__file__).parent.parent
MODEL = ROOT / "demo" / "model"
PROFILES = ("full", "dense-constant-50")
RATE, SEED = 16000, 23
PROMPT = "<asr>"
OPENING, FLOOR = 1600, 3e-4  # samples before the first word, standard deviation of the noise
WITHIN = 0.2  # seconds


@dataclass(frozen=True)
class Plan:
    """One set of clips."""

    name: str
    voice: str
    words: tuple[int, int]  # of a clip, from the first number to below the second
    pauses: tuple[float, float]  # seconds after each word
    clips: int


PLANS = (
    Plan("human voice", "human", (3, 13), (0.025, 0.19), 32),
    Plan("human voice, uneven pauses", "human", (3, 10), (0.025, 0.8), 32),
    Plan("human voice, 30 s", "human", (29, 30), (0.025, 0.19), 12),
    Plan("synthetic voices", "synthetic", (3, 13), (0.025, 0.19), 32),
    Plan("synthetic voices, uneven pauses", "synthetic", (3, 10), (0.025, 0.8), 32),
)


@dataclass(frozen=True)
class Clip:
    """Audio whose words begin at known times."""

    plan: Plan
    is_test: bool  # or else it chooses heads
    samples: Array  # (n,), 16 kHz
    words: tuple[str, ...]
    begins: tuple[float, ...]  # seconds


@dataclass(frozen=True)
class Answer:
    """What the model wrote about a clip under one profile, and where it looked."""

    clip: Clip
    profile: str
    words: tuple[str, ...]
    seconds: float
    attention: tuple[Array, ...]  # of each layer: (words, heads, rows) to the audio rows it keeps
    result: GenerationResult

    @property
    def matched(self) -> list[tuple[int, int]]:
        """Places of the words that are right: in the clip and in the answer."""
        if not self.words:
            return []
        aligned = jiwer.process_words(" ".join(self.clip.words), " ".join(self.words))
        return [
            (chunk.ref_start_idx + i, chunk.hyp_start_idx + i)
            for chunk in aligned.alignments[0]
            if chunk.type == "equal"
            for i in range(chunk.ref_end_idx - chunk.ref_start_idx)
        ]


Begins = Callable[[Answer], Sequence[float]]
"""When each word of an answer begins, in seconds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "build" / "word_times.json")
    parser.add_argument("--sounds", type=Path, help="folder with the unpacked Debian package of the voice")
    parser.add_argument("--speech", type=Path, help="folder with speech.npy of demo/evaluation_sets.py")
    options = parser.parse_args()
    machine = environment(1, ["jiwer", "torch", "transformers"])
    found = list(answers(clips(options.sounds, options.speech)))
    chosen, layers = choose([answer for answer in found if not answer.clip.is_test])
    result = {
        "environment": asdict(machine),
        "within_seconds": WITHIN,
        "layer": chosen[0],
        "heads": chosen[1],
        "layers": layers,
        "records": list(records([answer for answer in found if answer.clip.is_test], chosen)),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")


def clips(sounds: Path | None, speech_folder: Path | None) -> Iterator[Clip]:
    """All sets; of each, the clips of odd number are the half that is measured."""
    sys.path.insert(0, str(ROOT / "demo"))
    from asterisk_words import fetch, load_words
    from training.clips import Speech
    from training.vocabulary import WORDS

    human = load_words(sounds or fetch(ROOT / "build" / "asterisk"))
    speech = Speech(_recorded(speech_folder or ROOT / "build" / "evaluation"))
    voices = speech.voices(held_out=True)
    halves = voices[::2], voices[1::2]
    for place, plan in enumerate(PLANS):
        draw = np.random.default_rng((SEED, place))
        for number in range(plan.clips):
            mine = halves[number % 2]
            voice = mine[int(draw.integers(len(mine)))]
            drawn = [WORDS[i] for i in draw.integers(len(WORDS), size=int(draw.integers(*plan.words)))]
            say = human.get if plan.voice == "human" else partial(speech.word, voice)
            said = [(word, samples) for word in drawn if (samples := say(word)) is not None]
            samples, begins = spliced([each for _, each in said], plan.pauses, draw)
            yield Clip(plan, number % 2 == 1, samples, tuple(word for word, _ in said), begins)


def _recorded(folder: Path) -> Path:
    """A folder with the held-out voices, which espeak-ng records if they are not there."""
    from training.voices import is_for_tests, record

    if not (folder / "speech.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        record(folder, chosen=is_for_tests)
    return folder


def spliced(
    words: Sequence[Array], pauses: tuple[float, float], draw: Draw
) -> tuple[Array, tuple[float, ...]]:
    """The words one after another over noise, and when each begins."""
    pieces, begins, at = [np.zeros(OPENING, np.float32)], [], OPENING
    for word in words:
        begins.append((at + int(np.flatnonzero(np.abs(word) > 0.01 * np.abs(word).max())[0])) / RATE)
        pieces += [word, np.zeros(int(draw.uniform(*pauses) * RATE), np.float32)]
        at += len(pieces[-2]) + len(pieces[-1])
    samples = np.concatenate(pieces)
    return samples + draw.normal(0.0, FLOOR, len(samples)).astype(np.float32), tuple(begins)


def answers(chosen: Iterator[Clip]) -> Iterator[Answer]:
    """Each clip under every profile."""
    import torch

    torch.set_num_threads(1)
    reference = load_reference(MODEL)
    seen = watched(reference)
    with tempfile.TemporaryDirectory() as scratch:
        profiles = tuple(map(load_profile, PROFILES))
        build(MODEL, Path(scratch) / "demo", BuildOptions(profiles, row_maps=True))
        with SpeechLM.load(Path(scratch) / "demo", threads=1) as model:
            for clip in chosen:
                rows = model.audio_encoder.encode(clip.samples, Stopwatch())
                for profile in PROFILES:
                    result = model.generate(clip.samples, PROMPT, profile=profile)
                    yield answered(model, reference, seen, clip, rows, result)


def watched(reference: Any) -> dict[int, Array]:
    """By layer, the attention of the last row in the last run of a model: (heads, rows)."""
    seen: dict[int, Array] = {}

    def keep(layer: int, _module: Any, _inputs: Any, output: tuple[Any, Any]) -> None:
        seen[layer] = output[1][0, :, -1].numpy()

    for layer, module in enumerate(reference.get_decoder().layers):
        module.self_attn.register_forward_hook(partial(keep, layer))
    return seen


def answered(
    model: SpeechLM,
    reference: Any,
    seen: dict[int, Array],
    clip: Clip,
    rows: Array,
    result: GenerationResult,
) -> Answer:
    """An answer with the attention of the steps that write its words: every token of the demo is a word."""
    assert result.row_map is not None, "the artifact is built with it"
    codec = PromptCodec(tokenizer_of(model.artifact.read(TOKENIZER), TOKENIZER), model.manifest.prompt)
    ids, words = codec.encode(PROMPT).about(result.audio_seconds), tuple(result.text.split())
    tokens = result.hypotheses[0].tokens
    assert len(tokens) == len(words), f"{result.text!r} is not a word a token"
    decoder = ReferenceDecoder(
        reference, model.manifest.profiles[result.profile], ids.before, rows, ids.after
    )
    steps: list[list[Array]] = []
    for number in range(len(tokens)):
        if number:
            decoder.step(np.array([tokens[number - 1]]), np.array([0]), 1)
        else:
            decoder.start(1)
        ends = [length - len(ids.after) for length in result.prefix_lengths]
        steps.append(
            [
                seen[each.layer][:, end - len(each.starts) : end].copy()
                for each, end in zip(result.row_map, ends, strict=True)
            ]
        )
    attention = tuple(np.stack(layer) for layer in zip(*steps, strict=True))
    return Answer(clip, result.profile, words, result.audio_seconds, attention, result)


def by_attention(heads: Heads, answer: Answer) -> list[float]:
    """Of each word where its step begins to look."""
    layer, chosen = heads
    assert answer.result.row_map is not None
    rows = answer.result.row_map[layer]
    return [looked_at(step[list(chosen)].mean(0), rows)[0] for step in answer.attention[layer]]


def evenly(answer: Answer) -> list[float]:
    """As if every word took equally long."""
    return [place * answer.seconds / len(answer.words) for place in range(len(answer.words))]


def errors(found: Sequence[Answer], begins: Begins) -> Array:
    """Seconds by which the begins of right words are late, (words,)."""
    late: list[float] = []
    for answer in found:
        at = begins(answer)
        late += [at[mine] - answer.clip.begins[true] for true, mine in answer.matched]
    return np.array(late)


def within(found: Sequence[Answer], heads: Heads) -> float:
    """Share of begins that are near enough, as a mean over sets and profiles."""
    parts = [part for part in parted(found).values() if part]
    return float(np.mean([_near(errors(part, partial(by_attention, heads))) for part in parts]))


def choose(found: Sequence[Answer]) -> tuple[Heads, list[dict[str, Any]]]:
    """The heads with the most begins near enough, and the best of each layer."""
    layers, best = [], []
    for layer, attention in enumerate(found[0].attention):
        numbers = range(attention.shape[1])
        sets = [heads for size in numbers for heads in combinations(numbers, size + 1)]
        share, heads = max((within(found, (layer, heads)), heads) for heads in sets)
        layers.append({"layer": layer, "heads": heads, "within": share})
        best.append((share, (layer, heads)))
    return max(best)[1], layers


def parted(found: Sequence[Answer]) -> dict[tuple[str, str], list[Answer]]:
    """By set and profile."""
    return {
        (plan.name, profile): [a for a in found if a.clip.plan == plan and a.profile == profile]
        for plan in PLANS
        for profile in PROFILES
    }


def records(found: Sequence[Answer], heads: Heads) -> Iterator[dict[str, Any]]:
    """A record for each set and profile."""
    for (name, profile), part in parted(found).items():
        yield {
            **{"set": name, "profile": profile, "clips": len(part)},
            "words": sum(len(answer.clip.words) for answer in part),
            "right": sum(len(answer.matched) for answer in part),
            "attention": figures(errors(part, partial(by_attention, heads))),
            "evenly": figures(errors(part, evenly)),
        }


def figures(late: Array) -> dict[str, float]:
    """Of seconds by which begins are late."""
    error = np.abs(late)
    return {
        "median_ms": 1000 * float(np.median(error)),
        "p90_ms": 1000 * float(np.percentile(error, 90)),
        "within": _near(late),
        "median_late_ms": 1000 * float(np.median(late)),
    }


def _near(late: Array) -> float:
    return float((np.abs(late) <= WITHIN).mean())


if __name__ == "__main__":
    main()
