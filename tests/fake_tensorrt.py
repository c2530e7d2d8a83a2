"""Stands in for a GPU that is not there: TensorRT's calls over ONNX Runtime, device memory in host memory.

A plan is JSON here: the name that it carries, and the ONNX graph that its engine runs. Memory is addressed
by number and poisoned when it is given back, so a wrong address, size or lifetime shows in the results.
"""

from __future__ import annotations

import ctypes
import json
import shutil
import threading
import weakref
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np

from fastadasp.profiles import signature as sig
from fastadasp.runtime.artifact.artifact import open_artifact, record_of
from fastadasp.runtime.artifact.engines import EngineRecord, Engines, Machine, plan_name
from fastadasp.runtime.artifact.weights import map_weights
from fastadasp.runtime.onnxruntime.session import OnnxRuntimeSession
from fastadasp.runtime.tensorrt.element_types import ELEMENT_TYPES

MACHINE = Machine("tensorrt_rtx", "1.7.1.116", 80)
TOWER = ("encoder.onnx", "wave_encoder.onnx")
GRAPH_SHA256 = "f00d" * 16
POISON = 0xFF
NO_SHAPES = {}  # an optimization profile that says nothing
LIMITS = {
    "max_beams": 4,
    "max_batch": 4,
    "max_audio_seconds": 8.0,
    "max_audio_rows": 200,
    "max_text_rows": 64,
}


class FakeDevice:
    """Device memory is host memory. What is read or written must lie within one living allocation."""

    name, sm, stream = "a GPU that is not there", MACHINE.sm, 7

    def __init__(self):
        self.live_bytes = self.peak_bytes = 0
        self.copies = []  # bytes of each copy within the device
        self._living = {}  # address -> bytes
        self._lock = threading.RLock()  # memory may be given back while it is held

    def allocate(self, num_bytes):
        memory = np.full(max(1, num_bytes), POISON, np.uint8)
        buffer = _Buffer(memory.ctypes.data)
        with self._lock:
            self.live_bytes += num_bytes
            self.peak_bytes = max(self.peak_bytes, self.live_bytes)
            self._living[buffer.address] = memory.nbytes
        weakref.finalize(buffer, self._free, memory, num_bytes)
        return buffer

    def upload(self, array):
        assert array.flags.c_contiguous
        buffer = self.allocate(array.nbytes)
        ctypes.memmove(buffer.address, array.ctypes.data, array.nbytes)
        return buffer

    def download(self, source, array):
        ctypes.memmove(array.ctypes.data, self.checked(source, array.nbytes), array.nbytes)

    def copy_box(self, to, source, width, height, depth):
        self.copies.append(width * height * depth)
        pairs = list(zip(*(self._runs(box, width, height, depth) for box in (to, source)), strict=True))
        assert not pairs or not self._meet(*zip(*pairs, strict=True), width)
        for into, begin in pairs:
            ctypes.memmove(into, begin, width)

    def clear_box(self, box, width, height, depth):
        for run in self._runs(box, width, height, depth):
            ctypes.memset(run, 0, width)

    def checked(self, address, num_bytes):
        """The address of bytes that all belong to one allocation."""
        with self._lock:
            begin = max((begin for begin in self._living if begin <= address), default=None)
            assert begin is not None
            assert address + num_bytes <= begin + self._living[begin]
        return address

    def _runs(self, box, width, height, depth):
        assert depth == 1 or height <= box.slice_runs
        assert height == depth == 1 or width <= box.pitch
        places = (slice_ * box.slice_runs + run for slice_ in range(depth) for run in range(height))
        return [self.checked(box.address + place * box.pitch, width) for place in places]

    @staticmethod
    def _meet(written, taken, width):
        """Whether a run that is written has a byte of one that is read, which CUDA does not define."""
        begins = np.sort(np.array(taken))
        after = np.searchsorted(begins, np.array(written) + width)
        return bool((np.searchsorted(begins, np.array(written) - width, side="right") < after).any())

    def _free(self, memory, num_bytes):
        memory[:] = POISON
        with self._lock:
            del self._living[memory.ctypes.data]
            self.live_bytes -= num_bytes


class _Buffer:
    def __init__(self, address):
        self.address = address


class FakeEngine:
    """What a session asks of an engine, over a session of ONNX Runtime."""

    def __init__(self, name, session, tensors, types):
        self.name, self.session, self._tensors, self._types = name, session, tensors, types
        self.num_io_tensors = len(tensors)

    def get_tensor_name(self, i):
        return list(self._tensors)[i]

    def get_tensor_mode(self, name):
        return f"TensorIOMode.{self._tensors[name]}"

    def get_tensor_dtype(self, name):
        return f"DataType.{self._types[name]}"

    def get_tensor_location(self, name):
        on_host = name in (sig.NUM_CANDIDATES, sig.ENCODER_ROWS)
        return "TensorLocation.HOST" if on_host else "TensorLocation.DEVICE"

    def create_runtime_config(self):
        return SimpleNamespace()

    def create_execution_context(self, config=None):
        return FakeContext(self, config)


class FakeContext:
    """Reads inputs and writes outputs by address."""

    def __init__(self, engine, config):
        self.engine, self.config, self.shapes, self.addresses = engine, config, {}, {}

    def set_input_shape(self, name, shape):
        self.shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name, address):
        assert isinstance(address, int)
        assert address
        self.addresses[name] = address
        return True

    def infer_shapes(self):
        names = [name for name, mode in self.engine._tensors.items() if mode == "INPUT"]
        if missing := [name for name in names if name not in self.shapes or name not in self.addresses]:
            return missing
        session = self.engine.session
        outputs = session.run({name: self._read(name) for name in names})
        known = self.engine._types
        self.results = {name: session.read(tensor) for name, tensor in outputs.items() if name in known}
        return []

    def get_tensor_shape(self, name):
        return self.results[name].shape

    def execute_async_v3(self, stream):
        assert stream == FakeDevice.stream
        for name, array in self.results.items():
            encoded = ELEMENT_TYPES[self.engine._types[name]].encode(array)
            ctypes.memmove(self.addresses[name], encoded.ctypes.data, encoded.nbytes)
        return True

    def _read(self, name):
        kind = ELEMENT_TYPES[self.engine._types[name]]
        array = np.empty(self.shapes[name], kind.storage)
        ctypes.memmove(array.ctypes.data, self.addresses[name], array.nbytes)
        decoded = kind.decode(array)
        return decoded.astype(np.float32) if decoded.dtype == np.float16 else decoded


class FakeTensorRT:
    """What the runtime asks of the module tensorrt_rtx."""

    __name__, __version__ = MACHINE.product, MACHINE.version
    ILogger = object
    DynamicShapesKernelSpecializationStrategy = SimpleNamespace(NONE="NONE")
    CudaGraphStrategy = SimpleNamespace(DISABLED="DISABLED")

    def __init__(self, artifact, activation="BF16", plugin_version="1", decode=None):
        """`decode`: a graph of the same model, beside its weights, that the decode engine runs instead."""
        self._artifact, self._activation, self._decode = artifact, activation, decode
        creators = [
            SimpleNamespace(name=name, plugin_version=plugin_version, plugin_namespace="fastadasp")
            for name in ("AttentionMass", "MergeTokens", "MergeEdges", "EvictTokens")
        ]
        self.registry = SimpleNamespace(all_creators=creators, load_library=lambda path: None)
        self.deserialised = []

    def get_plugin_registry(self):
        return self.registry

    def Runtime(self, log):  # noqa: N802
        return SimpleNamespace(deserialize_cuda_engine=self._deserialize)

    def _deserialize(self, plan):
        content = json.loads(bytes(plan))
        self.deserialised.append(content["graph"])
        manifest = self._artifact.manifest
        weights = manifest.weights["fp32"]
        part = weights.encoder if content["graph"] in TOWER else weights.decoder
        path = self._artifact.path(content["graph"])
        weights = map_weights(self._artifact, part)
        if self._decode and content["graph"] == "decode.onnx":
            path, weights = self._decode, {}
        session = OnnxRuntimeSession(path, weights, threads=1)
        return FakeEngine(content["name"], session, *self._tensors(content["graph"]))

    def _tensors(self, graph):
        manifest = self._artifact.manifest
        front_end, decoder = manifest.front_end, manifest.decoder
        mels = front_end.log_mel.num_mel_bins
        dims = decoder.dims
        signature = {
            "encoder.onnx": lambda: sig.encoder_signature(mels, front_end.window_width(dims.hidden_size)),
            "wave_encoder.onnx": lambda: sig.wave_encoder_signature(
                front_end.window_width(dims.hidden_size), dims.hidden_size
            ),
            "decode.onnx": lambda: sig.step_signature(dims, decoder.step_inputs),
            "prompt_adapter.onnx": lambda: sig.prompt_adapter_signature(dims),
        }.get(graph, lambda: sig.prefill_signature(dims, decoder.request_inputs))()
        tensors = {spec.name: "INPUT" for spec in signature.inputs}
        tensors |= {spec.name: "OUTPUT" for spec in signature.outputs}
        kinds = {"float32": "FLOAT", "int64": "INT64", "bool": "BOOL", sig.ACTIVATION: self._activation}
        types = {spec.name: kinds[spec.dtype] for spec in (*signature.inputs, *signature.outputs)}
        return tensors, types


def with_engines(source, folder, decode_shapes=NO_SHAPES, **changes):
    """A copy of an artifact with plans for `FakeTensorRT`; `changes` are fields of its `Engines`."""
    shutil.copytree(source, folder)
    artifact = open_artifact(folder)
    graphs = artifact.graphs("onnxruntime")
    engines = {"encoder": graphs.encoder, "decode": graphs.decode}
    engines |= {"wave_encoder": graphs.wave_encoder} if graphs.wave_encoder else {}
    engines |= {"prompt_adapter": graphs.prompt_adapter} if graphs.prompt_adapter else {}
    engines |= {f"prefill.{name}": graph for name, graph in graphs.prefill.items()}
    (folder / "engines").mkdir()
    files, plans = dict(artifact.manifest.files), {}
    for name, graph in engines.items():
        file = f"engines/{name}.plan"
        (folder / file).write_text(json.dumps({"name": plan_name(name, GRAPH_SHA256), "graph": graph}))
        files[file] = record_of(folder / file)
        resolved = artifact.manifest.profiles.get(name.removeprefix("prefill."))
        at_input, ratios = (resolved.input_ratio, resolved.ratios) if resolved else (Fraction(0), ())
        shapes = decode_shapes if name == "decode" else NO_SHAPES
        plans[name] = EngineRecord(file, GRAPH_SHA256, at_input, ratios, 1.0, None, {}, shapes)
    (folder / "engines/plugins.so").write_bytes(b"a library")
    files["engines/plugins.so"] = record_of(folder / "engines/plugins.so")
    record = Engines(
        machine=MACHINE,
        precision="bf16",
        plugin_library="engines/plugins.so",
        plugin_abi="1",
        max_new_tokens=32,
        reproducible=False,
        verified_on=None,
        plans=plans,
        **LIMITS,
    )
    write_manifest(folder, replace(artifact.manifest, files=files, engines=replace(record, **changes)))
    return open_artifact(folder)


def write_manifest(folder, manifest):
    """Put a manifest into an artifact."""
    (folder / "manifest.json").write_text(manifest.to_json(), "utf-8")
