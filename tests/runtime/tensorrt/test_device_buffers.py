"""Buffers of a device hold, after any writes, what those of the host hold; and where it lies."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest

from fake_tensorrt import FakeDevice
from fastadasp.profiles.errors import EngineError
from fastadasp.profiles.flops import DecoderDims
from fastadasp.profiles.kv_layout import kv_shape
from fastadasp.profiles.signature import cache_names
from fastadasp.runtime.batching.buffers import HostBuffers
from fastadasp.runtime.session import NewRows
from fastadasp.runtime.tensorrt.buffers import DeviceBuffers, new_names
from fastadasp.runtime.tensorrt.device import Box, CudaDevice
from fastadasp.runtime.tensorrt.element_types import ELEMENT_TYPES
from fastadasp.runtime.tensorrt.stack import ALIGNMENT, Stack
from fastadasp.runtime.tensorrt.tensor import DeviceTensor, read, upload

TYPES = {"FLOAT": np.float32, "HALF": np.float16}
KV_HEADS, HEAD_DIM, LAYERS = (1, 2), (2, 6), 3


class Both:
    """The same batch in both kinds of buffers, written at random."""

    def __init__(self, rng, dims, activation):
        self.rng, self.dims, self.element = rng, dims, ELEMENT_TYPES[activation]
        self.draw, self.number = np.random.default_rng(rng.randrange(2**32)), TYPES[activation]
        self.device = FakeDevice()
        prefix = self.prefix()
        self.host = HostBuffers(dims, prefix, lambda array: array, lambda tensor: tensor)
        self.host._pool = {name: pool.astype(self.number) for name, pool in self.host._pool.items()}
        self.there = DeviceBuffers(self.device, self.element, dims, self.uploaded(prefix))
        self.lengths = [self.lengths_of(prefix)]
        self.pools = [0]

    def prefix(self):
        lengths = [self.rng.randint(1, 90) for _ in range(self.dims.num_layers)]
        shapes = {name: kv_shape(self.dims, n) for i, n in enumerate(lengths) for name in cache_names(i)[:2]}
        return {name: self.drawn(shape) for name, shape in shapes.items()}

    def lengths_of(self, prefix):
        return [prefix[cache_names(i)[0]].shape[1] for i in range(self.dims.num_layers)]

    def drawn(self, shape):
        return self.draw.standard_normal(shape).astype(self.number)

    def uploaded(self, arrays):
        return {name: upload(self.device, array, self.element) for name, array in arrays.items()}

    def join(self):
        prefix = self.prefix()
        self.lengths.append(self.lengths_of(prefix))
        self.pools.append(0)
        for buffers, tensors in ((self.host, prefix), (self.there, self.uploaded(prefix))):
            buffers.fit(self.lengths)
            buffers.put(len(self.lengths) - 1, tensors)

    def leave(self):
        if len(self.lengths) == 1:
            return
        row, last = self.rng.randrange(len(self.lengths)), len(self.lengths) - 1
        if row < last:
            self.host.move(last, row)
            self.there.move(last, row)
        self.lengths[row], self.pools[row] = self.lengths[last], self.pools[last]
        self.lengths.pop()
        self.pools.pop()

    def step(self):
        requests, beams = len(self.lengths), self.rng.randint(1, 24)
        counts = [self.rng.randint(1, beams) for _ in range(requests)]
        asked = [row for row in range(requests) if self.rng.random() < 0.8] or [0]
        rows = max(self.pools[row] + counts[row] for row in asked)
        made = {
            name: self.drawn((requests, *kv_shape(self.dims, beams)))
            for name in new_names(self.dims.num_layers)
        }
        written = [NewRows(row, self.pools[row], counts[row]) for row in asked]
        for buffers, outputs in ((self.host, made), (self.there, self.stacked(made))):
            buffers.fit_pool(rows)
            buffers.append(outputs, written)
        for row in asked:
            self.pools[row] += counts[row]

    def stacked(self, made):
        """As the session of an engine has its outputs."""
        shape = next(iter(made.values())).shape
        size = self.element.item_bytes * self.dims.head_dim
        stack = Stack.allocated(self.device, len(made), shape[0], shape[1], shape[2], size)
        for i, array in enumerate(made.values()):
            place = stack.tensor(i).box()
            source = self.device.upload(array)
            self.device.copy_box(place, Box(source.address, array.nbytes, 1), array.nbytes, 1, 1)
        return {
            name: DeviceTensor(stack.buffer, shape, self.element, stack.offset_of(i))
            for i, name in enumerate(made)
        }

    def keep(self):
        row = self.rng.randrange(len(self.pools))
        if kept := sorted(self.rng.sample(range(self.pools[row]), self.rng.randint(0, self.pools[row]))):
            self.host.keep(row, np.array(kept))
            self.there.keep(row, np.array(kept))
            self.pools[row] = len(kept)

    def compare(self):
        requests = len(self.lengths)
        expected, found = self.host.tensors(requests), self.there.tensors(requests)
        assert expected.keys() == found.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(read(self.device, found[name]), array, err_msg=name)


@pytest.mark.parametrize("activation", TYPES)
@pytest.mark.parametrize("seed", range(4))
def test_both_hold_the_same_after_any_writes(seed, activation):
    rng = random.Random(seed)
    dims = DecoderDims(LAYERS, 8, 4, rng.choice(KV_HEADS), rng.choice(HEAD_DIM), 16, 9)
    both = Both(rng, dims, activation)
    for _ in range(80):
        rng.choice((both.join, both.leave, both.step, both.step, both.step, both.keep))()
        both.compare()
    assert both.there.pool_capacity == both.host.pool_capacity > 64


def test_a_pool_that_was_decoded_elsewhere_goes_on():
    both = Both(random.Random(0), DecoderDims(LAYERS, 8, 4, 2, 2, 16, 9), "HALF")
    both.join()
    names = [name for i in range(LAYERS) for name in cache_names(i)[2:]]
    pool = {name: both.drawn(kv_shape(both.dims, 70)) for name in names}
    for buffers in (both.host, both.there):
        buffers.fit_pool(70)
        buffers.put_pool(1, pool)
    both.compare()


def failing(function, after, error):
    """The function, which fails once, after so many calls."""
    calls = iter([*[False] * after, True])

    def called(*arguments, **options):
        if next(calls, False):
            raise error
        return function(*arguments, **options)

    return called


@pytest.mark.parametrize("after", [0, 3, 5, 6, 7])
def test_where_memory_runs_out_the_next_request_finds_what_was_there(monkeypatch, after):
    both = Both(random.Random(0), DecoderDims(LAYERS, 8, 4, 2, 2, 16, 9), "HALF")
    both.join()
    both.step()
    large = [*both.lengths, [300] * LAYERS]
    with monkeypatch.context() as patch:
        patch.setattr(np, "zeros", failing(np.zeros, after, MemoryError()))
        with pytest.raises(MemoryError):
            both.host.fit(large)
    on_device = min(after, 2 * LAYERS)  # whose pools are one allocation
    full = EngineError("cudaMallocAsync: out of memory")
    monkeypatch.setattr(both.device, "allocate", failing(both.device.allocate, on_device, full))
    with pytest.raises(EngineError):
        both.there.fit(large)
    both.compare()
    both.join()
    both.compare()


def test_where_memory_runs_out_for_a_pool_the_next_step_makes_the_room(monkeypatch):
    both = Both(random.Random(0), DecoderDims(LAYERS, 8, 4, 2, 2, 16, 9), "FLOAT")
    with monkeypatch.context() as patch:
        patch.setattr(np, "zeros", failing(np.zeros, 2, MemoryError()))
        with pytest.raises(MemoryError):
            both.host.fit_pool(70)
    for buffers in (both.host, both.there):
        buffers.fit_pool(70)
    both.compare()


@pytest.mark.parametrize("run", [2, 12, 64, 100, 256, 1000])
@pytest.mark.parametrize("requests", [1, 3])
def test_every_tensor_of_a_stack_begins_where_one_of_its_own_would(requests, run):
    stack = Stack.allocated(FakeDevice(), 5, requests, 2, 1, run)
    begins = [stack.offset_of(i) for i in range(5)]
    assert all(begin % ALIGNMENT == 0 for begin in begins)
    assert all(after - begin >= requests * 2 * run for begin, after in pairwise(begins))


class Recorded(CudaDevice):
    """A device of CUDA that keeps its calls and makes none."""

    stream = 7

    def __init__(self, cuda):
        self._cuda, self.calls = cuda, []

    def _call(self, name, *arguments):
        assert hasattr(self._cuda, name)
        self.calls.append((name, *arguments))


def test_cuda_is_asked_to_copy_and_clear_the_boxes():
    cuda = pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-python")
    device = Recorded(cuda)
    device.copy_box(Box(4096, 640, 9), Box(8192, 64, 5), 48, 4, 3)
    device.clear_box(Box(4096, 640, 9), 48, 4, 3)
    device.copy_box(Box(4096, 640, 9), Box(8192, 64, 5), 0, 4, 3)
    device.clear_box(Box(4096, 640, 9), 48, 0, 3)
    (copied, copy, of_copy), (cleared, box, value, extent, of_clear) = device.calls
    assert (copied, cleared, of_copy, of_clear, value) == ("cudaMemcpy3DAsync", "cudaMemset3DAsync", 7, 7, 0)
    assert (int(copy.dstPtr.ptr), copy.dstPtr.pitch, copy.dstPtr.ysize) == (4096, 640, 9)
    assert (int(copy.srcPtr.ptr), copy.srcPtr.pitch, copy.srcPtr.ysize) == (8192, 64, 5)
    assert copy.kind == cuda.cudaMemcpyKind.cudaMemcpyDeviceToDevice
    assert (int(box.ptr), box.pitch, box.ysize) == (4096, 640, 9)
    for each in (copy.extent, extent):
        assert (each.width, each.height, each.depth) == (48, 4, 3)
