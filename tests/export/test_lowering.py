"""What a backend cannot run is refused before a graph is written."""

from __future__ import annotations

from fractions import Fraction

import pytest

from fastadasp.export.checkpoint import Checkpoint
from fastadasp.export.families.family import load_model
from fastadasp.export.lowering.onnxruntime import OnnxRuntimeLowering
from fastadasp.export.model_spec import tensors_of
from fastadasp.export.pipeline import resolve_for, write_graphs
from fastadasp.export.weights import weight_store
from fastadasp.profiles import Profile, ProfileError


class StaticLowering(OnnxRuntimeLowering):
    """A backend that must know every length from the shapes of its inputs."""

    name = "static"
    takes_data_dependent_lengths = False


@pytest.fixture
def write(tiny_checkpoint, tmp_path):
    model = load_model(Checkpoint(tiny_checkpoint))
    store = weight_store(tensors_of((model.encoder, model.decoder)), "link")

    def write_for(lowering, method):
        profile = resolve_for(Profile("mine", method, "single", 1, ratio=Fraction(1, 4)), model)
        return write_graphs(tmp_path, model, [profile], store, lowering)

    return write_for


def test_a_length_that_depends_on_the_data_is_refused_with_the_reason(write, tmp_path):
    with pytest.raises(ProfileError, match=r"mine \(a_tome\): how many rows are left depends on the data"):
        write(StaticLowering(), "a_tome")
    assert not list(tmp_path.iterdir())


def test_lengths_that_follow_from_the_shapes_are_taken(write):
    assert "prefill.mine.onnx" in write(StaticLowering(), "weighted_merge")


def test_onnx_runtime_takes_both(write):
    assert "prefill.mine.onnx" in write(OnnxRuntimeLowering(), "a_tome")
