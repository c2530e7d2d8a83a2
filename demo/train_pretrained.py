"""Train a second model, whose decoder is a pretrained language model: docs/pretrained_model.md.

    apt-get install espeak-ng flite
    pip install ".[train]"
    python demo/train_pretrained.py --work build/pretrained

SmolLM2-135M learns to read the rows of Whisper base's encoder: first the encoder's upper layers and a
projector learn under CTC to say the tokens of a transcript, then the decoder learns with them, by low-rank
additions, which the checkpoint has folded in. Speech of many synthetic voices, who read plain sentences, is
made on the spot; no human speech is used. What is done is kept in the work folder: a run that was stopped
goes on. A file `stop` there, SIGTERM or Ctrl-C ends it, after a step or the files that are being written.
`log.jsonl` has the losses.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from tokenizers import Tokenizer

from fastadasp.export.file import write_file
from pretrained import checkpoint, decoder
from pretrained.batches import Clip, make_batch, read_clips
from pretrained.encoder import CONFIG, whisper_base
from pretrained.features import cache
from pretrained.language_model import TOKENIZER, Language, Sizes, read_weights, unpack
from pretrained.loop import STOP, Stage, StoppedError, Trainer, asked_to_stop
from pretrained.model import Model
from pretrained.packages import Sources, install
from pretrained.speech import record
from pretrained.text import normalised, sentences

TEST_SENTENCES, TRAIN_SENTENCES = 300, 18000
TEXT_SEED, TRAIN_SEED, TEST_SEED = 0, 0, 1
HELD_OUT = 64  # clips whose loss the log has
CTC = Stage(
    "ctc",
    450,
    {"encoder": 2e-4, "projector": 2e-3, "ctc": 2e-3},
    answers=False,
    ctc=(1.0, 1.0, 1.0),
    last=0.2,
    flat=0.3,
    files=20,
)
STEADY = Stage(
    "steady",
    600,
    {"encoder": 1e-4, "projector": 1e-3, "ctc": 1e-3, "lora": 1e-3, "norms": 1e-4},
    ctc=(0.3, 125 / 600, (125 + 500 / 3) / 600),
)
COOLING = replace(STEADY, steps=400, ctc=(0.0, 0.0, 0.0), flat=0.0, first=STEADY.steps)
OWN_GAPS = 0.5  # with --gaps: largest share of audio rows after which positions are left out


@dataclass(frozen=True)
class Run:
    """Which of the models that the recipe can make."""

    seed: int = 0  # of the last stage
    with_ctc: bool = True
    with_gaps: bool = False  # positions left out among audio rows, in the last stage
    cool_now: bool = False  # whether the middle stage ends where it is

    @property
    def stages(self) -> tuple[Stage, ...]:
        """In their order, each of a name that no stage of other settings has."""
        gaps = OWN_GAPS if self.with_gaps else 0.0
        last = replace(COOLING, name=self.name, seed=self.seed, gaps=gaps)
        if self.with_ctc:
            return CTC, STEADY, last
        return replace(STEADY, name=f"{STEADY.name}-without-ctc", ctc=(0.0, 0.0, 0.0)), last

    @property
    def name(self) -> str:
        """Of the model that comes out."""
        marks = {"without-ctc": not self.with_ctc, "gaps": self.with_gaps, "cool-now": self.cool_now}
        return "-".join((f"seed-{self.seed}", *(mark for mark, holds in marks.items() if holds)))

    def check(self, work: Path) -> None:
        """See that there is something to cool, if that is asked for.

        Raises:
            SystemExit: the middle stage has left no checkpoint.
        """
        middle = work / f"{self.stages[-2].name}.pt"
        if self.cool_now and not middle.is_file():
            raise SystemExit(f"{middle} is not there, so nothing can cool: train without --cool-now first")


def prepare(sources: Sources) -> None:
    """What all stages of the training need: packages, texts, speech."""
    work = sources.work
    install(sources)
    sys.path.append(str(sources.site))  # gguf is there
    unpack(sources.language_model, work / "language_model")
    texts = work / "sentences.json"
    if not texts.is_file():
        write_file(texts, json.dumps(sentences(sources.wordnet, TEXT_SEED), indent=0).encode())
    said = json.loads(texts.read_text("utf-8"))
    end = TEST_SENTENCES + TRAIN_SENTENCES
    with asked_to_stop(work) as stop:
        record(work / "speech", "test", said[:TEST_SENTENCES], TEST_SEED, stop, held_out=True)
        record(work / "speech", "train", said[TEST_SENTENCES:end], TRAIN_SEED, stop)


def train(sources: Sources, run: Run, threads: int) -> None:
    """Every stage of a run that is not done, then its checkpoint."""
    work = sources.work
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    language = Language.of(work / "language_model")
    said = json.loads((work / "sentences.json").read_text("utf-8"))
    spoken = sorted({token for text in said for token in language.transcript(normalised(text))})
    encoder = whisper_base(*sources.whisper)
    model = Model(encoder, read_weights(work / "language_model"), Sizes(), spoken)
    if shutil.which("g++"):
        decoder.Layer.forward = torch.compile(decoder.Layer.forward, dynamic=True)  # type: ignore[method-assign]
    with asked_to_stop(work) as stop:
        held_out = clips_of(sources, language, "test", TEST_SEED, stop)
        first = make_batch(held_out[:HELD_OUT], language, CONFIG["d_model"])
        model.fit_size(first.rows, first.row_lengths)
        clips = partial(clips_of, sources, language, "train", TRAIN_SEED, stop)
        learn(model, language, run, work, clips, held_out[:HELD_OUT], stop)
    tokenizer = Tokenizer.from_file(str(work / "language_model" / TOKENIZER))
    special = {"audio": language.audio, "end": language.end}
    before = read_weights(work / "language_model")
    whole = checkpoint.whole_model(model, encoder, before, Sizes(), special)
    checkpoint.save(whole, tokenizer, work / f"model-{run.name}")
    print(f"{work / f'model-{run.name}'}: done", flush=True)


def learn(
    model: Model,
    language: Language,
    run: Run,
    work: Path,
    clips: Callable[[int | None], list[Clip]],
    held_out: list[Clip],
    stop: Callable[[], bool],
) -> None:
    """Every stage of a run that is not done; `clips` gives those of the first so many files.

    Raises:
        StoppedError: `stop` said so.
        SystemExit: a checkpoint is not of this run.
    """
    after = 0
    for stage in run.stages:
        trainer = Trainer(model, language, stage, clips(stage.files), held_out, after)
        path = work / f"{stage.name}.pt"
        if path.is_file():
            trainer.load(path)
        if not (run.cool_now and stage.name.startswith(STEADY.name)):
            trainer.run(path, work / "log.jsonl", stop)
        after = trainer.step


def clips_of(
    sources: Sources,
    language: Language,
    name: str,
    seed: int,
    stop: Callable[[], bool],
    files: int | None = None,
) -> list[Clip]:
    """The clips of the first files, encoded where they are not yet."""
    cache(sources.work, name, sources.whisper, seed, stop, files)
    return read_clips(sources.work / "features", name, language, files)


@contextmanager
def alone(work: Path) -> Iterator[None]:
    """Hold the work folder for this process.

    Raises:
        SystemExit: another one holds it.
    """
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"{work}: another training runs there; wait for it, or stop it") from None
        yield


def main() -> None:
    """Prepare, train, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    build = Path(__file__).parent.parent / "build/pretrained"
    parser.add_argument("--work", type=Path, default=build, help="packages, recordings, checkpoints, models")
    parser.add_argument("--seed", type=int, default=0, help="of the last stage")
    parser.add_argument(
        "--without-ctc",
        action="store_true",
        help=f"no CTC; so without the stage `ctc` too, {CTC.steps} updates of encoder and projector",
    )
    parser.add_argument("--gaps", action="store_true", help="leave out positions in the last stage")
    parser.add_argument("--cool-now", action="store_true", help="end the middle stage where it is")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    sources = Sources(options.work.resolve())
    if (sources.work / STOP).is_file():
        raise SystemExit(f"{sources.work / STOP} is there: remove it to train")
    run = Run(options.seed, not options.without_ctc, options.gaps, options.cool_now)
    run.check(sources.work)
    try:
        with alone(sources.work):
            prepare(sources)
            train(sources, run, options.threads)
    except StoppedError:
        raise SystemExit(f"stopped; start again with --work {options.work} to go on") from None


if __name__ == "__main__":
    main()
