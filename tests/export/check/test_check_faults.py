"""Every kind of fault that `check` knows is found, named, and placed; and what it cannot check is refused."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from demo_files import DEMO
from fastadasp.export.check.backends import CheckedBackend
from fastadasp.export.check.cases import prefill_feed, random_cases
from fastadasp.export.check.check import check_artifact
from fastadasp.export.check.comparison import SessionRunner, compare, in_vocabulary_order, run
from fastadasp.export.check.graphs import DECODE, prefill_of, signature_of
from fastadasp.export.check.localisation import first_difference
from fastadasp.export.check.options import CheckOptions
from fastadasp.export.check.reference import load_for
from fastadasp.export.check.tolerance import TOLERANCES
from fastadasp.export.check.torch_backend import TorchBackend
from fastadasp.export.cli import main
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import Profile, load_profile
from fastadasp.runtime.artifact.artifact import open_artifact, record_of
from fastadasp.runtime.artifact.manifest import FILE_NAME
from tiny_families import TINY

pytestmark = pytest.mark.usefixtures("one_thread")
FULL = CheckOptions(profiles=("full",))
DECODER = "language_model.model.layers"


@pytest.fixture
def own(tiny_artifact, tmp_path):
    """An artifact that a test may damage."""
    return Path(shutil.copytree(tiny_artifact, tmp_path / "artifact"))


def sign(folder, **changes):
    """Change fields of a manifest and hash all files anew, as a build with that fault would have done."""
    manifest = open_artifact_unsafe(folder)
    files = {name: record_of(folder / name) for name in manifest.files}
    text = replace(manifest, files=files, **changes).to_json()
    (folder / FILE_NAME).write_text(text, "utf-8")


def open_artifact_unsafe(folder):
    from fastadasp.runtime.artifact.manifest import parse_manifest

    return parse_manifest((folder / FILE_NAME).read_text("utf-8"), "test")


def changed_checkpoint(source, target, name, change):
    """A copy of a checkpoint in which `change` was made to one tensor."""
    shutil.copytree(source, target)
    tensors = load_file(target / "model.safetensors")
    change(tensors[name])
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def places(artifact, options=FULL):
    """graph -> where it first differs."""
    verdicts = check_artifact(open_artifact(artifact), options)
    assert any(not verdict.finding.passed for verdict in verdicts)
    return {str(verdict.graph): verdict.where for verdict in verdicts if verdict.where}


def refused(*arguments):
    """The one line with which the command line refuses."""
    result = CliRunner().invoke(main, ["check", *map(str, arguments)])
    assert result.exit_code == 2, result.output
    return result.output.splitlines()[-1]


@pytest.mark.parametrize(
    ("weight", "place"),
    [
        ("audio_tower.conv2.weight", "convolutions"),
        ("audio_tower.layers.1.fc1.weight", "layer 1, fc1"),
        ("audio_tower.layers.0.self_attn_layer_norm.bias", "layer 0, attention norm"),
        ("multi_modal_projector.linear.bias", "projector"),
    ],
)
def test_a_wrong_weight_of_the_encoder_is_named(tiny_checkpoint, tmp_path, weight, place):
    changed = changed_checkpoint(tiny_checkpoint, tmp_path / "changed", weight, lambda t: t.add_(0.5))
    build(changed, tmp_path / "artifact", BuildOptions((load_profile("full"),), weights="copy"))
    found = places(tmp_path / "artifact", replace(FULL, checkpoint=tiny_checkpoint))
    assert found.keys() == {"encoder"}  # the graphs of the decoder get the rows of the reference
    assert found["encoder"].startswith(f"first differs in {place}: error ")


@pytest.mark.parametrize("norm", ["q_norm", "k_norm"])
@pytest.mark.parametrize("layer", [1, 2])
def test_a_wrong_norm_of_heads_is_named(qwen3_asr, tmp_path, norm, layer):
    weight = f"model.language_model.layers.{layer}.self_attn.{norm}.weight"
    changed = changed_checkpoint(qwen3_asr, tmp_path / "changed", weight, lambda t: t.mul_(1.5))
    build(changed, tmp_path / "artifact", BuildOptions((load_profile("full"),), weights="copy"))
    found = places(tmp_path / "artifact", replace(FULL, checkpoint=qwen3_asr))
    assert found.keys() == {"prefill.full", "decode"}
    assert all(
        where.startswith(f"first differs in layer {layer}, {norm}: error ") for where in found.values()
    )


@pytest.fixture(scope="module")
def qwen3_asr(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen3") / "checkpoint"
    TINY["qwen3_asr"].save(folder)
    return folder


def test_a_wrong_offset_in_the_manifest_is_found_without_the_checkpoint(own):
    manifest = open_artifact(own).manifest
    name = f"{DECODER}.2.mlp.up_proj.weight"
    weights = manifest.weights["fp32"]
    other = weights.decoder[f"{DECODER}.2.mlp.gate_proj.weight"]
    decoder = {**weights.decoder, name: other}  # an offset amid a tensor is found when the artifact is opened
    sign(own, weights={"fp32": replace(weights, decoder=decoder)})
    found = places(own)
    assert found["prefill.full"].startswith("first differs in layer 2, MLP: error ")
    assert found["decode"].startswith("first differs in layer 2, up_proj: error ")


def test_a_graph_of_another_profile_is_found_by_its_lengths(own):
    shutil.copy(own / "prefill.dense-constant-20.onnx", own / "prefill.own-30.onnx")
    sign(own)
    found = places(own, CheckOptions(profiles=("own-30",)))
    assert re.match(
        r"first differs in layer 1, MLP norm: shape \[\d+, 64\] instead of \[", found["prefill.own-30"]
    )


@pytest.fixture(scope="module")
def evicting(tiny_checkpoint, tmp_path_factory):
    """An artifact whose caches are shortened in layers 1 to 3."""
    folder = tmp_path_factory.mktemp("evicting") / "artifact"
    profile = Profile("h2o", "h2o", "constant", 1, ratio=Fraction(1, 2))
    build(tiny_checkpoint, folder, BuildOptions((profile,), weights="copy"))
    return folder


def test_caches_that_rows_are_evicted_from_agree(evicting):
    verdicts = check_artifact(open_artifact(evicting), CheckOptions())
    assert {verdict.graph.kind for verdict in verdicts} == {"encoder", "prefill", "decode"}
    assert all(verdict.finding.passed for verdict in verdicts)


@pytest.mark.parametrize("layer", [1, 3])
def test_evicting_the_wrong_rows_is_found_in_what_is_kept(evicting, tmp_path, layer):
    folder = Path(shutil.copytree(evicting, tmp_path / "artifact"))
    graph = onnx.load(folder / "prefill.h2o.onnx", load_external_data=False)
    nodes = {node.name: node for node in graph.graph.node}
    node = nodes[f"/layers.{layer}/reduce/EvictCache"]
    negated = onnx.helper.make_node("Neg", [node.input[2]], ["negated"], name="/negated")
    node.input[2] = "negated"
    graph.graph.node.insert(list(graph.graph.node).index(node), negated)
    (folder / "prefill.h2o.onnx").write_bytes(graph.SerializeToString())
    sign(folder)
    found = places(folder, CheckOptions())
    assert found.keys() == {"prefill.h2o"}  # decode steps get the caches of the reference
    line = found["prefill.h2o"]
    assert line.startswith(f"first differs in layer {layer}, kept keys: error ")
    assert line.endswith(f"; everything up to layer {layer}, o_proj agrees")


@pytest.mark.parametrize(
    ("method", "op"),
    [("uniform_merge", "MergeEdges"), ("group_select", "EvictTokens"), ("sa_map", "EvictTokens")],
)
def test_choosing_the_wrong_rows_at_the_input_is_found_there(tiny_checkpoint, tmp_path, method, op):
    folder, profile = tmp_path / "artifact", Profile("chosen", method, "input", ratio=Fraction(1, 3))
    build(tiny_checkpoint, folder, BuildOptions((profile,), weights="copy"))
    assert all(it.finding.passed for it in check_artifact(open_artifact(folder), CheckOptions()))
    graph = onnx.load(folder / "prefill.chosen.onnx", load_external_data=False)
    nodes = list(graph.graph.node)
    node = next(node for node in nodes if node.name == f"/input/reduce/{op}")
    negated = onnx.helper.make_node("Neg", [node.input[1]], ["negated"], name="/negated")
    node.input[1] = "negated"
    graph.graph.node.insert(nodes.index(node), negated)
    (folder / "prefill.chosen.onnx").write_bytes(graph.SerializeToString())
    sign(folder)
    (line,) = places(folder, CheckOptions()).values()
    assert line.startswith("first differs in reduction at the input: error ")


def test_wrong_attention_of_the_encoder_is_found_there(tiny_checkpoint, tmp_path):
    folder, profile = tmp_path / "artifact", Profile("mapped", "sa_map", "input", ratio=Fraction(1, 3))
    build(tiny_checkpoint, folder, BuildOptions((profile,), weights="copy"))
    graph = onnx.load(folder / "encoder.onnx", load_external_data=False)
    (loop,) = (node for node in graph.graph.node if node.op_type == "Loop")
    body = next(each.g for each in loop.attribute if each.name == "body")
    node = next(node for node in body.node if node.op_type == "Max")
    node.input[0] = node.input[1]  # so that the last head alone counts
    (folder / "encoder.onnx").write_bytes(graph.SerializeToString())
    sign(folder)
    found = places(folder, CheckOptions())
    assert found.keys() == {"encoder"}  # the prefill gets what the reference says
    assert found["encoder"].startswith("first differs in row weights: error ")
    assert found["encoder"].endswith("; everything up to projector agrees")


def test_wrong_angles_are_found_in_the_rotated_keys(tiny_checkpoint, tmp_path):
    changed = Path(shutil.copytree(tiny_checkpoint, tmp_path / "changed"))
    config = (changed / "config.json").read_text()
    (changed / "config.json").write_text(config.replace('"rope_theta": 10000.0', '"rope_theta": 9000.0'))
    assert config != (changed / "config.json").read_text()
    build(changed, tmp_path / "artifact", BuildOptions((load_profile("full"),), weights="copy"))
    found = places(tmp_path / "artifact", replace(FULL, checkpoint=tiny_checkpoint))
    assert found["prefill.full"].startswith("first differs in layer 0, rotated keys: error ")


@pytest.fixture(scope="module")
def overflowing(tiny_checkpoint, tmp_path_factory):
    """An artifact with a number in layer 1 that its activations cannot hold."""
    folder = tmp_path_factory.mktemp("overflow")
    name = f"{DECODER}.1.self_attn.v_proj.bias"
    changed = changed_checkpoint(tiny_checkpoint, folder / "changed", name, lambda t: t.fill_(float("inf")))
    build(changed, folder / "artifact", BuildOptions((load_profile("full"),), weights="copy"))
    return folder / "artifact"


def test_an_output_that_is_not_finite_is_named_with_its_layer(overflowing, tiny_checkpoint):
    found = places(overflowing, replace(FULL, checkpoint=tiny_checkpoint))
    assert found["prefill.full"].startswith("first differs in layer 1, v_proj: not finite; everything up to")
    assert found["decode"].startswith("first differs in layer 1, v_proj: not finite; everything up to")


def test_fp16_is_told_to_become_bf16(overflowing, tiny_checkpoint):
    artifact = open_artifact(overflowing)
    backend = CheckedBackend("onnxruntime", artifact)
    backend.precision = lambda graph: "fp16"
    reference = TorchBackend(load_for(artifact, tiny_checkpoint), artifact.manifest)
    feed = prefill_feed(random_cases(artifact.manifest, 1.0)[0], 1)
    assert "fp16 overflow: build with --precision bf16" in first_difference(
        prefill_of("full"), reference, backend, feed
    )


def test_a_reference_that_is_not_finite_is_told_apart(overflowing):
    assert "the reference itself is not finite" in places(overflowing)["prefill.full"]


def test_a_tie_between_two_merges_is_told(tiny_checkpoint, tmp_path):
    """Equal rows have equal similarities at every place, so that rounding alone chooses."""
    profile = Profile("ties", "weighted_merge", "single", 0, ratio=Fraction(2, 5))
    build(tiny_checkpoint, tmp_path / "artifact", BuildOptions((profile,), weights="copy"))
    artifact = open_artifact(tmp_path / "artifact")
    reference = TorchBackend(load_for(artifact, None), artifact.manifest)
    case = random_cases(artifact.manifest, 1.0)[0]
    case = replace(case, rows=np.repeat(case.rows[:1], 200, axis=0))
    graph, backend = prefill_of("ties"), CheckedBackend("onnxruntime", artifact)
    line = first_difference(graph, reference, backend, prefill_feed(case, 1))
    assert line.startswith("first differs in layer 0, reduction: error ")
    assert "rounding may choose either" in line


class Broken(CheckedBackend):
    """A backend whose plain session errs, but not the one that shows what is inside."""

    def session(self, graph):
        return Doubling(super().session(graph))


class Doubling:
    def __init__(self, session):
        self.session = session

    def run(self, inputs):
        return self.session.run(inputs)

    def read(self, tensor):
        array = self.session.read(tensor)
        return array if array.dtype == np.int64 else array * 2


def test_an_error_that_vanishes_under_observation_is_put_to_the_backend(tiny_artifact):
    artifact = open_artifact(tiny_artifact)
    reference, backend = (
        TorchBackend(load_for(artifact, None), artifact.manifest),
        Broken("onnxruntime", artifact),
    )
    graph, feed = prefill_of("full"), prefill_feed(random_cases(artifact.manifest, 1.0)[0], 4)
    signature = signature_of(graph, artifact.manifest)
    runners = [SessionRunner(b.name, b.session(graph), signature) for b in (reference, backend)]
    ((finding,),) = compare(run(runners, [feed]), [TOLERANCES["fp32"]])
    assert not finding.passed
    assert first_difference(graph, reference, backend, feed).startswith("every place inside agrees")


def test_rounding_that_adds_up_is_told_from_an_error_at_one_place(tiny_artifact, monkeypatch):
    monkeypatch.setitem(TOLERANCES, "fp32", replace(TOLERANCES["fp32"], rows=1e-9))
    line = places(tiny_artifact)["prefill.full"]
    assert re.match(r"no place stands out: errors that rounding explains add up to \S+ in layer \d", line)


def test_a_missing_candidate_is_an_error():
    """An id twice, or beyond the vocabulary, leaves another one out: its logit is not finite."""
    from polygraphy.comparator import IterationResult

    ids, logits = np.array([[0, 1, 1], [0, 7, 1]]), np.ones((2, 3), np.float32)
    ordered = in_vocabulary_order(IterationResult({"top_logits": logits, "top_ids": ids}))
    assert np.isnan(ordered["logits"]).tolist() == [[False, False, True]] * 2


def test_the_decode_step_is_run_on_beams_that_branch(tiny_artifact):
    """A mask that shows every beam the whole pool must be noticed."""
    artifact = open_artifact(tiny_artifact)
    reference = TorchBackend(load_for(artifact, None), artifact.manifest)
    from fastadasp.export.check.cases import decode_feeds

    prefix = reference.session(prefill_of("full")).run(
        prefill_feed(random_cases(artifact.manifest, 1.0)[0], 1)
    )
    first, second, third = decode_feeds(artifact.manifest, reference.session(DECODE), prefix)
    session = CheckedBackend("onnxruntime", artifact).session(DECODE)
    for feed in (second, third):
        assert not feed["pool_mask"].all()
        right, wrong = (
            session.run({**feed, "pool_mask": m}) for m in (feed["pool_mask"], feed["pool_mask"] | True)
        )
        difference = session.read(right["log_sum_exp"]) - session.read(wrong["log_sum_exp"])
        assert np.abs(difference).max() > 10 * TOLERANCES["fp32"].scores
    assert first["pool_mask"].tolist() == np.eye(3, dtype=bool).tolist()


def test_what_cannot_be_checked_is_refused_in_one_line(own, tiny_checkpoint, tmp_path):
    assert "profile nonsense is not in artifact" in refused(own, "--profile", "nonsense")
    assert "backend 'magic' is unknown; known: onnxruntime, onnxruntime-cuda, openvino, tensorrt" in refused(
        own, "--backend", "magic"
    )
    assert "has no engines; build it with --engine" in refused(own, "--backend", "tensorrt")
    assert "config.json is missing" in refused(own, "--clip", tmp_path / "none.wav", "--checkpoint", tmp_path)
    assert "none.wav does not exist" in refused(own, "--clip", tmp_path / "none.wav")
    assert "give an ARTIFACT" in refused()
    assert "takes a CHECKPOINT and no other option" in refused(own, "--golden", tmp_path, "--profile", "full")


def test_a_checkpoint_of_another_model_is_refused_with_the_sizes(own):
    demo = DEMO / "model"
    line = refused(own, "--checkpoint", demo)
    layers = json.loads((demo / "config.json").read_text("utf-8"))["text_config"]["num_hidden_layers"]
    assert f"num_layers {layers} instead of 4" in line
    assert f"give the one that {own} comes from" in line


def test_an_artifact_without_settings_needs_the_checkpoint(own):
    manifest = open_artifact_unsafe(own)
    (own / "config.json").unlink()
    files = {name: record for name, record in manifest.files.items() if name != "config.json"}
    (own / FILE_NAME).write_text(replace(manifest, files=files).to_json())
    assert "build it again, or give --checkpoint" in refused(own)


def test_a_damaged_artifact_is_refused_before_anything_runs(own):
    (own / "decode.onnx").write_bytes(b"")
    assert "decode.onnx has 0 bytes instead of" in refused(own)


def test_a_family_without_a_model_in_transformers_is_refused_with_the_remedy(own):
    sign(own, family="qwen_audio")
    line = refused(own)
    assert "family qwen_audio has no model in transformers" in line
    assert "check CHECKPOINT --golden DIR" in line


def test_a_missing_polygraphy_is_named_with_its_extra(own, monkeypatch):
    from fastadasp.export.commands import parameters

    monkeypatch.setattr(parameters, "find_spec", lambda name: None if name == "polygraphy" else object())
    assert 'pip install "fastadasp-export[check]"' in refused(own)


def test_scores_and_rows_have_tolerances_of_their_own(tiny_artifact):
    """An error between the two of bf16 fails in a score and passes in a key."""
    artifact = open_artifact(tiny_artifact)
    reference = TorchBackend(load_for(artifact, None), artifact.manifest)
    feed = prefill_feed(random_cases(artifact.manifest, 1.0)[0], artifact.manifest.decoder.dims.vocab_size)
    graph = prefill_of("full")
    signature, session = signature_of(graph, artifact.manifest), reference.session(graph)

    def errs_in(output, error):
        runners = [
            SessionRunner("torch", session, signature),
            SessionRunner("shifted", Shifted(session, output, error), signature),
        ]
        ((finding,),) = compare(run(runners, [feed]), [TOLERANCES["bf16"]])
        return not finding.passed, finding.output

    assert errs_in("prefix_key.2", 1.0) == (False, "prefix_key.2")
    assert errs_in("log_sum_exp", 1.0) == (True, "log_sum_exp")
    assert errs_in("prefix_key.2", 5.0) == (True, "prefix_key.2")


class Shifted:
    """A session with an error in one output."""

    def __init__(self, session, output, error):
        self.session, self.output, self.error = session, output, error

    def run(self, inputs):
        outputs = self.session.run(inputs)
        return {**outputs, self.output: outputs[self.output] + np.float32(self.error)}

    def read(self, tensor):
        return tensor
