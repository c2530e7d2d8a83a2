"""One rough random Qwen2-Audio for all parity tests: in transformers, and as an artifact."""

import shutil
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from transformers import GenerationConfig, Qwen2AudioProcessor, WhisperFeatureExtractor
from transformers.utils import logging

from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.export.reference.model import load_reference
from fastadasp.profiles.methods import METHODS, VARIANTS
from fastadasp.profiles.profile import Profile
from fastadasp.profiles.schedule import has_start_layer
from fastadasp.runtime import SpeechLM

from .models import roughen

torch.set_num_threads(1)
logging.disable_progress_bar()

FULL = Profile("full", "full")
REDUCING = [name for name, method in METHODS.items() if method.reduces]
EXTREMES = (
    Profile("first-layer", "weighted_merge", "single", 0, ratio=Fraction(1, 2)),
    Profile("last-layer", "weighted_merge", "single", 3, ratio=Fraction(1, 2)),
    Profile("nothing-removed", "weighted_merge", "constant", 0, ratio=Fraction(1, 1000)),
    Profile("most-removed", "weighted_merge", "constant", 0, ratio=Fraction(9, 10)),
    Profile("most-pairs", "a_tome", "constant", 0, ratio=Fraction(9, 10)),
    Profile("most-evicted", "fastv", "constant", 0, ratio=Fraction(9, 10)),
    Profile("most-forgotten", "h2o", "constant", 0, ratio=Fraction(999, 1000)),
    Profile("last-cache", "h2o", "constant", 3, ratio=Fraction(1, 2)),
    Profile("nothing-forgotten", "h2o", "constant", 0, ratio=Fraction(1, 1000)),
    Profile("least-at-input", "average_merge", "input", ratio=Fraction(1, 1000)),
    Profile("most-at-input", "average_merge", "input", ratio=Fraction(999, 1000)),
    Profile("most-pairs-at-input", "a_tome", "input", ratio=Fraction(9, 10)),
    Profile("most-pooled", "uniform_merge", "constant", 0, ratio=Fraction(9, 10)),
    Profile("pooled-pairs", "uniform_merge", "input", ratio=Fraction(1, 2)),
    Profile("least-selected", "group_select", "input", ratio=Fraction(1, 1000)),
    Profile("most-selected", "group_select", "input", ratio=Fraction(999, 1000)),
    Profile("few-selected", "group_select", "input", ratio=Fraction(49, 50)),  # fewer than groups
    Profile("least-mapped", "sa_map", "input", ratio=Fraction(1, 1000)),
    Profile("most-mapped", "sa_map", "input", ratio=Fraction(999, 1000)),
    Profile("few-mapped", "sa_map", "input", ratio=Fraction(49, 50)),
    Profile("input-with-bos", "average_merge", "input", ratio=Fraction(1, 3), include_audio_bos=True),
    Profile("another-seed", "random_merge", "constant", 1, ratio=Fraction(2, 7), seed=2**31 - 1),
)


def every_method_and_schedule():
    """A profile for each pair that there is, of each of a method's scores."""
    for name, method in VARIANTS.items():
        for schedule in method.schedules:
            own = {"ratio": Fraction(2, 7), **method.settings}
            start = int(has_start_layer(schedule))
            yield Profile(f"{name}-{schedule}", method.name, schedule, start, **own)


def with_bos(methods):
    """Those of the methods that may reduce the row before the audio, too."""
    return [method for method in methods if not METHODS[method].weighs_by_encoder]


def with_audio_bos():
    """A profile for each method whose span starts one row before the audio frames."""
    for method in with_bos(REDUCING):
        schedule = "constant" if "constant" in METHODS[method].schedules else METHODS[method].schedules[0]
        name = f"{method}-with-bos"
        yield Profile(name, method, schedule, 0, ratio=Fraction(1, 3), include_audio_bos=True)


def with_kept_positions():
    """A profile for each method and schedule whose rows stay where they were."""
    for profile in (*every_method_and_schedule(), *with_audio_bos(), *EXTREMES):
        if not profile.traits.is_of_caches:
            yield replace(profile, name=f"{profile.name}-kept", positions="kept")


REDUCED = (*every_method_and_schedule(), *with_audio_bos(), *EXTREMES, *with_kept_positions())


@pytest.fixture(scope="session")
def checkpoint(tiny_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parity") / "rough"
    shutil.copytree(tiny_checkpoint, folder)
    model = load_reference(folder)
    roughen(model)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model(checkpoint):
    """The checkpoint in transformers, float32, with search settings from its calls alone."""
    model = load_reference(checkpoint)
    model.generation_config = GenerationConfig()
    return model


@pytest.fixture(scope="session")
def extractor(checkpoint):
    return WhisperFeatureExtractor.from_pretrained(checkpoint)


@pytest.fixture(scope="session")
def processor(checkpoint):
    return Qwen2AudioProcessor.from_pretrained(checkpoint)


@pytest.fixture(scope="session")
def artifact(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parity") / "artifact"
    build(checkpoint, folder, BuildOptions((FULL, *REDUCED), weights="copy"))
    return folder


@pytest.fixture(scope="session")
def speech_lm(artifact):
    return SpeechLM.load(artifact, threads=1)


@pytest.fixture(scope="session")
def vocab_size(speech_lm):
    return speech_lm.manifest.decoder.dims.vocab_size
