"""The encoder graph of a description by itself: written with its weights, and run."""

from __future__ import annotations

import numpy as np
import onnxruntime

from fastadasp.export.checkpoint.weights import weight_store
from fastadasp.export.graphs.write import ENCODER_FILE, build_tower
from fastadasp.export.model.spec import tensors_of


def write(folder, model, lowering, weighs_rows=False):
    folder.mkdir()
    store = weight_store(list(tensors_of(model.tower)), "copy", lowering.precision)
    store.write(folder)
    graphs = build_tower(model, store, lowering, weighs_rows)
    (folder / ENCODER_FILE).write_bytes(graphs[ENCODER_FILE].SerializeToString())
    return folder / ENCODER_FILE


def run(path, feeds):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0].astype(np.float32)
