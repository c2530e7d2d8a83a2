"""Weights in another precision are the numbers of the checkpoint, rounded; what does not fit is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.checkpoint.derived import Derived
from fastadasp.export.checkpoint.precision import BF16, FP16, FP32
from fastadasp.export.checkpoint.weights import Converted, weight_store
from fastadasp.profiles.errors import CheckpointError

VALUES = [1.0, -0.0, 65504.0, 65519.0, 1e-45, float("inf"), float("nan")]


@pytest.fixture
def tensor(tmp_path):
    """One float32 tensor of a checkpoint, by its numbers."""

    def save(values):
        (tmp_path / "config.json").write_text("{}", "utf-8")
        save_file({"layer.weight": torch.tensor([values])}, tmp_path / "model.safetensors")
        return Checkpoint(tmp_path).tensor("layer.weight", (1, len(values)))

    return save


@pytest.mark.parametrize(
    ("precision", "dtype"), [(FP32, torch.float32), (FP16, torch.float16), (BF16, torch.bfloat16)]
)
def test_numbers_are_rounded_and_infinities_stay(tensor, tmp_path, precision, dtype):
    (name,) = Converted([tensor(VALUES)], precision).write(tmp_path)
    found = load_file(tmp_path / name)["layer.weight"]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found.double(), torch.tensor([VALUES]).to(dtype).double())


@pytest.mark.parametrize("value", [65520.0, -7e4, 3e38])
def test_a_number_that_would_become_infinite_is_refused_by_name(tensor, tmp_path, value):
    store = Converted([tensor([*VALUES, value])], FP16)
    with pytest.raises(
        CheckpointError, match=r"layer\.weight holds \S+, which fp16 cannot; .* bf16"
    ) as fault:
        store.write(tmp_path)
    assert f" {value:g}," in str(fault.value)


def test_a_converted_file_never_writes_into_one_that_is_there(tensor, tmp_path):
    """It may be a hard link to a shard of the checkpoint that happens to have this name."""
    (tmp_path / "weights").mkdir()
    shard = tmp_path / "weights/fp16.safetensors"
    shard.write_bytes(b"weights of the user")
    with pytest.raises(FileExistsError):
        Converted([tensor(VALUES)], FP16).write(tmp_path)
    assert shard.read_bytes() == b"weights of the user"


@pytest.mark.parametrize("precision", [FP32, BF16], ids=lambda precision: precision.name)
def test_derived_tensors_stand_in_a_file_beside_what_is_stored(tensor, tmp_path, precision):
    """In place or converted, each is found where the store says, and computed from the stored numbers."""
    stored = tensor([1.0, 2.0, 3.0])
    doubled = Derived("layer.doubled", (3, 2), (stored, stored), lambda a, b: np.concatenate([a, a + b]).T)
    store = weight_store([stored, doubled], "copy", precision)
    target = tmp_path / "artifact"
    target.mkdir()
    names = store.write(target)
    place = store.place(doubled)
    assert place.location in names
    assert len(names) == (2 if precision is FP32 else 1)
    assert place.length == 6 * precision.item_bytes
    raw = np.fromfile(target / place.location, precision.numpy_type, 6, offset=place.offset)
    np.testing.assert_array_equal(raw.astype(np.float32).reshape(3, 2), [[1, 2], [2, 4], [3, 6]])
    assert load_file(target / place.location)["layer.doubled"].shape == (3, 2)


def test_a_derived_tensor_of_another_shape_is_a_fault_of_ours(tensor):
    with pytest.raises(AssertionError, match=r"wrong is \(1, 3\), not \(3,\)"):
        Derived("wrong", (3,), (tensor([1.0, 2.0, 3.0]),), lambda a: a).read()
