"""Rows of a cache tensor: counted and taken alike by the sessions of every backend, in any layout."""

import numpy as np
import onnxruntime as ort
import pytest

from fake_tensorrt import FakeDevice
from fastadasp.export.check.torch_backend import TorchSession
from fastadasp.profiles import kv_layout
from fastadasp.runtime.onnxruntime.session import OnnxRuntimeSession
from fastadasp.runtime.tensorrt.element_types import ELEMENT_TYPES
from fastadasp.runtime.tensorrt.session import DeviceTensor, TensorRTSession

ROWS = {"none": [], "one": [3], "runs": [0, 1, 4, 6, 7, 8], "all": range(9)}


class OnOnnxRuntime:
    """ONNX Runtime's session; nothing of a graph is needed to take rows."""

    session = OnnxRuntimeSession
    tensor = staticmethod(ort.OrtValue.ortvalue_from_numpy)

    def rows_of(self, tensor):
        return self.session.rows_of(self, tensor)

    def take_rows(self, tensor, rows):
        return self.session.take_rows(self, tensor, rows).numpy()


class InTorch(OnOnnxRuntime):
    """The session of the reference."""

    session = TorchSession

    def tensor(self, array):
        return array

    def take_rows(self, tensor, rows):
        return self.session.take_rows(self, tensor, rows)


class OnADevice(OnOnnxRuntime):
    """TensorRT's session, over device memory that is none."""

    session = TensorRTSession

    def __init__(self):
        self._device = FakeDevice()

    def tensor(self, array):
        return DeviceTensor(self._device.upload(array), array.shape, ELEMENT_TYPES["FLOAT"])

    def take_rows(self, tensor, rows):
        return self.session.read(self, self.session.take_rows(self, tensor, rows))


@pytest.mark.parametrize("rows_axis", [0, 1, 2])
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("backend", [OnOnnxRuntime, InTorch, OnADevice])
def test_rows_are_counted_and_taken_along_their_axis(monkeypatch, backend, rows, rows_axis):
    monkeypatch.setattr(kv_layout, "ROWS_AXIS", rows_axis)
    shape, chosen = kv_layout.with_rows((2, 4, 5), 9), np.array(ROWS[rows], np.int64)
    array = np.random.default_rng(0).standard_normal(shape, np.float32)
    session = backend()
    tensor = session.tensor(array)
    assert session.rows_of(tensor) == 9
    assert np.array_equal(session.take_rows(tensor, chosen), np.take(array, chosen, axis=rows_axis))
