"""Whether the decoder's attention tells when the words of an answer begin, by clips of known word times.

    python bench/word_times.py -o bench/results/word_times.json [--sounds FOLDER] [--speech FOLDER]

Clips of the demo's words are put together from recordings of single words, so that every begin is known: its
first sample above 1 % of the peak. The demo model transcribes them under each profile. On one half of the
clips the torch reference goes through the same tokens and gives the attention of every head to every row,
which the map of the rows turns into seconds; that chooses heads of one layer. An artifact is built with these
and measured on the other half. Beside its begins stand those spread evenly over the clip, by the number of
words in the answer. The human voice is the same in both halves; synthetic voices are not. One more set is
connected: espeak-ng says whole sentences and when each of their words begins.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

import jiwer
import numpy as np
import numpy.typing as npt
from connected_speech import Speaker

from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.export.reference.model import ReferenceDecoder, load_reference
from fastadasp.profiles import load_profile
from fastadasp.profiles.signature import WordHeads
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.alignment.word_times import looked_at
from fastadasp.runtime.artifact.artifact import TOKENIZER
from fastadasp.runtime.environment import environment
from fastadasp.runtime.latency import Stopwatch
from fastadasp.runtime.prompt import PromptCodec, tokenizer_of
from fastadasp.runtime.results import GenerationResult

Array = npt.NDArray[Any]
Draw = np.random.Generator
Times = tuple[float, ...]  # seconds

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
CONNECTED = Plan("synthetic voices, sentences without pauses", "connected", (3, 13), (0.0, 0.0), 32)
VOICES = ("en-us", "en-us+f3", "en-us+klatt", "en-gb-scotland+m3", "en-gb-x-rp+f5", "en-029+m7")
SPEEDS = (145, 185)  # words a minute


@dataclass(frozen=True)
class Clip:
    """Audio whose words begin at known times."""

    plan: Plan
    is_test: bool  # or else it chooses heads
    samples: Array  # (n,), 16 kHz
    words: tuple[str, ...]
    begins: Times
    ends: Times


@dataclass(frozen=True)
class Answer:
    """What the model wrote about a clip under one profile."""

    clip: Clip
    result: GenerationResult

    @property
    def words(self) -> list[str]:
        """Those of the text."""
        return self.result.text.split()

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


@dataclass(frozen=True)
class Watched(Answer):
    """An answer with where all heads looked, by layer: (words, heads, audio rows that it keeps)."""

    attention: tuple[Array, ...]


Kind = TypeVar("Kind", bound=Answer)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "build" / "word_times.json")
    parser.add_argument("--sounds", type=Path, help="folder with the unpacked Debian package of the voice")
    parser.add_argument("--speech", type=Path, help="folder with speech.npy of demo/evaluation_sets.py")
    options = parser.parse_args()
    machine = environment(1, ["jiwer", "torch", "transformers"])
    made = list(clips(options.sounds, options.speech))
    chosen, layers, ends = choose(list(watched(clip for clip in made if not clip.is_test)))
    found = list(answers((clip for clip in made if clip.is_test), chosen))
    result = {
        "environment": asdict(machine),
        "within_seconds": WITHIN,
        "layer": chosen.layer,
        "heads": chosen.heads,
        "layers": layers,
        "median_end_late_ms": ends,
        "records": list(records(found)),
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
            spoken = spliced([each for _, each in said], plan.pauses, draw)
            yield Clip(plan, number % 2 == 1, spoken[0], tuple(word for word, _ in said), *spoken[1:])
    yield from connected(np.random.default_rng((SEED, len(PLANS))))


def connected(draw: Draw) -> Iterator[Clip]:
    """Sentences that are said as a whole; no head is chosen by them."""
    from training.vocabulary import TOPICS
    from training.voices import sentence

    speaker = Speaker()
    for _ in range(CONNECTED.clips):
        words: list[str] = []
        while len(words) < CONNECTED.words[0]:
            words += sentence(TOPICS[int(draw.integers(len(TOPICS)))], draw)
        voice, speed = VOICES[int(draw.integers(len(VOICES)))], int(draw.integers(*SPEEDS))
        samples, begins = speaker.say(words, voice, speed, RATE)
        noisy, _, (end,) = spliced([samples], CONNECTED.pauses, draw)
        at = tuple(OPENING / RATE + begin for begin in begins)
        yield Clip(CONNECTED, True, noisy, tuple(words), at, (*at[1:], end))


def _recorded(folder: Path) -> Path:
    """A folder with the held-out voices, which espeak-ng records if they are not there."""
    from training.voices import is_for_tests, record

    if not (folder / "speech.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        record(folder, chosen=is_for_tests)
    return folder


def spliced(words: Sequence[Array], pauses: tuple[float, float], draw: Draw) -> tuple[Array, Times, Times]:
    """The words one after another over noise, and when each begins and ends."""
    pieces, begins, ends, at = [np.zeros(OPENING, np.float32)], [], [], OPENING
    for word in words:
        loud = np.flatnonzero(np.abs(word) > 0.01 * np.abs(word).max())
        begins.append((at + int(loud[0])) / RATE)
        ends.append((at + int(loud[-1]) + 1) / RATE)
        pieces += [word, np.zeros(int(draw.uniform(*pauses) * RATE), np.float32)]
        at += len(pieces[-2]) + len(pieces[-1])
    samples = np.concatenate(pieces)
    noisy = samples + draw.normal(0.0, FLOOR, len(samples)).astype(np.float32)
    return noisy, tuple(begins), tuple(ends)


@contextmanager
def demo(**options: Any) -> Iterator[SpeechLM]:
    """The demo model, built with these options."""
    with tempfile.TemporaryDirectory() as scratch:
        build(MODEL, Path(scratch) / "demo", BuildOptions(tuple(map(load_profile, PROFILES)), **options))
        with SpeechLM.load(Path(scratch) / "demo", threads=1) as model:
            yield model


def answers(chosen: Iterable[Clip], heads: WordHeads) -> Iterator[Answer]:
    """Each clip under every profile, by an artifact that says when words begin."""
    with demo(word_heads=heads) as model:
        for clip in chosen:
            for profile in PROFILES:
                yield Answer(clip, model.generate(clip.samples, PROMPT, profile=profile))


def watched(chosen: Iterable[Clip]) -> Iterator[Watched]:
    """The same with the attention of all heads of the reference to the rows of the map."""
    import torch

    torch.set_num_threads(1)
    reference, seen = load_reference(MODEL), {}
    for layer, module in enumerate(reference.get_decoder().layers):
        module.self_attn.register_forward_hook(partial(_keep, seen, layer))
    with demo(row_maps=True) as model:
        for clip in chosen:
            for profile in PROFILES:
                result = model.generate(clip.samples, PROMPT, profile=profile)
                yield Watched(clip, result, attention_of(model, reference, seen, clip, result))


def _keep(seen: dict[int, Array], layer: int, _module: Any, _inputs: Any, output: tuple[Any, Any]) -> None:
    """What the last row of a layer attends to, (heads, rows)."""
    seen[layer] = output[1][0, :, -1].numpy()


def attention_of(
    model: SpeechLM, reference: Any, seen: dict[int, Array], clip: Clip, result: GenerationResult
) -> tuple[Array, ...]:
    """That of the steps which write the words of an answer: every token of the demo is a word."""
    assert result.row_map is not None, "the artifact is built with it"
    codec = PromptCodec(tokenizer_of(model.artifact.read(TOKENIZER), TOKENIZER), model.manifest.prompt)
    ids, tokens = codec.encode(PROMPT).about(result.audio_seconds), result.hypotheses[0].tokens
    assert len(tokens) == len(result.text.split()), f"{result.text!r} is not a word a token"
    rows = model.audio_encoder.encode(clip.samples, Stopwatch())
    profile = model.manifest.profiles[result.profile]
    decoder = ReferenceDecoder(reference, profile, ids.before, rows, ids.after)
    ends = [length - len(ids.after) for length in result.prefix_lengths]
    audio = [slice(end - len(each.starts), end) for each, end in zip(result.row_map, ends, strict=True)]
    steps: list[list[Array]] = []
    for before in (None, *tokens[:-1]):
        if before is None:
            decoder.start(1)
        else:
            decoder.step(np.array([before]), np.array([0]), 1)
        steps.append([seen[layer][:, columns].copy() for layer, columns in enumerate(audio)])
    return tuple(np.stack(layer) for layer in zip(*steps, strict=True))


def spans(heads: WordHeads, answer: Watched) -> list[tuple[float, float]]:
    """Of each word the seconds that its step looks at."""
    assert answer.result.row_map is not None
    rows, chosen = answer.result.row_map[heads.layer], list(heads.heads)
    return [looked_at(step[chosen].mean(0), rows) for step in answer.attention[heads.layer]]


def choose(found: Sequence[Watched]) -> tuple[WordHeads, list[dict[str, Any]], float]:
    """The heads with the most begins near enough, the best of each layer, and how late their ends are."""
    layers, best = [], []
    for layer, attention in enumerate(found[0].attention):
        numbers = range(attention.shape[1])
        sets = [WordHeads(layer, heads) for size in numbers for heads in combinations(numbers, size + 1)]
        share, heads = max(((_share(found, heads), heads) for heads in sets), key=lambda pair: pair[0])
        layers.append({"layer": layer, "heads": heads.heads, "within": share})
        best.append((share, heads))
    chosen = max(best, key=lambda pair: pair[0])[1]
    late = [
        spans(chosen, answer)[mine][1] - answer.clip.ends[true]
        for answer in found
        for true, mine in answer.matched
    ]
    return chosen, layers, 1000 * float(np.median(late))


def _share(found: Sequence[Watched], heads: WordHeads) -> float:
    """Share of begins that are near enough, as a mean over sets and profiles."""
    parts = [part for part in parted(found).values() if part]
    return float(
        np.mean(
            [_near(late(part, lambda each: [begin for begin, _ in spans(heads, each)])) for part in parts]
        )
    )


def by_attention(answer: Answer) -> list[float]:
    """What the artifact says."""
    assert answer.result.words is not None
    return [word.start for word in answer.result.words]


def evenly(answer: Answer) -> list[float]:
    """As if every word took equally long."""
    return [place * answer.result.audio_seconds / len(answer.words) for place in range(len(answer.words))]


def late(found: Sequence[Kind], begins: Callable[[Kind], Sequence[float]]) -> Array:
    """Seconds by which the begins of right words are late, (words,)."""
    errors: list[float] = []
    for answer in found:
        at = begins(answer)
        errors += [at[mine] - answer.clip.begins[true] for true, mine in answer.matched]
    return np.array(errors)


def parted(found: Sequence[Kind]) -> dict[tuple[str, str], list[Kind]]:
    """By set and profile."""
    return {
        (plan.name, profile): [a for a in found if a.clip.plan == plan and a.result.profile == profile]
        for plan in (*PLANS, CONNECTED)
        for profile in PROFILES
    }


def records(found: Sequence[Answer]) -> Iterator[dict[str, Any]]:
    """A record for each set and profile."""
    for (name, profile), part in parted(found).items():
        yield {
            **{"set": name, "profile": profile, "clips": len(part)},
            "words": sum(len(answer.clip.words) for answer in part),
            "right": sum(len(answer.matched) for answer in part),
            "attention": figures(late(part, by_attention)),
            "evenly": figures(late(part, evenly)),
            "confidence": confidence(part),
        }


def confidence(found: Sequence[Answer]) -> dict[str, int]:
    """Of the begins of right words how many are near enough and not, and how many of each are confident."""
    near = np.abs(late(found, by_attention)) <= WITHIN
    told = np.array([(a.result.words or ())[mine].confident for a in found for _, mine in a.matched], bool)
    return {
        "near": int(near.sum()),
        "near_confident": int((near & told).sum()),
        "far": int((~near).sum()),
        "far_confident": int((~near & told).sum()),
    }


def figures(errors: Array) -> dict[str, float]:
    """Of seconds by which begins are late."""
    return {
        "median_ms": 1000 * float(np.median(np.abs(errors))),
        "p90_ms": 1000 * float(np.percentile(np.abs(errors), 90)),
        "within": _near(errors),
        "median_late_ms": 1000 * float(np.median(errors)),
    }


def _near(errors: Array) -> float:
    return float((np.abs(errors) <= WITHIN).mean())


if __name__ == "__main__":
    main()
