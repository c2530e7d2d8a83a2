"""A manifest that says what cannot be is refused when it is opened. Its digest is right, whoever wrote it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_tensorrt import with_engines
from fastadasp.profiles.codec import to_json
from fastadasp.profiles.errors import ArtifactError
from fastadasp.profiles.faults import few
from fastadasp.runtime import SearchOptions, SpeechLM
from fastadasp.runtime.artifact.artifact import open_artifact, record_of
from fastadasp.runtime.artifact.faults import manifest_faults
from fastadasp.runtime.artifact.manifest import FILE_NAME, MANIFEST_FORMAT, parse_manifest
from fastadasp.runtime.choice.figures import (
    Accuracy,
    Figures,
    Latency,
    Loss,
    Machine,
    MeasuredClips,
    Timed,
)
from fastadasp.runtime.tables.artifact import artifact_sections
from fuzzing import (
    Place,
    answered,
    changed,
    fuzz,
    mutants,
    opened_files,
    places,
    removed,
    renamed,
    set_to,
)

SOUND = np.full(8000, 0.1, np.float32)
CLIPS = MeasuredClips("clips.jsonl", "0" * 64, 40, 40, 30.0)
TIMES = {"full": (Timed(1, 10.0, 100.0), Timed(1, 30.0, 300.0), Timed(5, 10.0, 150.0))}
LOSS = {"value": 0.5, "low": 0.1, "high": 0.9, "budget": 1}
FIGURES = Figures(
    Accuracy("asr", "WER", "full", CLIPS, 30, {"own-30": Loss(0.5, -0.1, 0.9, 1.0)}),
    Latency(Machine("CPUExecutionProvider", "a CPU", 2), 64, TIMES),
)


def with_digest(content: dict[str, Any]) -> dict[str, Any]:
    """The manifest as it is when its writer means it: with the digest of what it says."""
    content = {key: value for key, value in content.items() if key != "digest"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return {**content, "digest": hashlib.sha256(canonical.encode()).hexdigest()}


@pytest.fixture(scope="module")
def with_plans(tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny artifact with engines, as a manifest has them on a machine with a GPU."""
    folder = tmp_path_factory.mktemp("manifest") / "artifact"
    artifact = with_engines(tiny_artifact, folder)
    engines = artifact.manifest.engines
    plan = replace(engines.plans["encoder"], peak_bytes=5, shapes={"mel": ((1, 2), (1, 3), (1, 4))})
    plan = replace(plan, plugin_layers={"MergeTokens": 2}, quantized={"int4": 25})
    engines = replace(engines, plans={**engines.plans, "encoder": plan})
    write(folder, json.loads(replace(artifact.manifest, engines=engines, figures=FIGURES).to_json()))
    return folder


@pytest.fixture(scope="module")
def content(with_plans: Path) -> dict[str, Any]:
    """Its manifest."""
    found = json.loads((with_plans / FILE_NAME).read_text("utf-8"))
    del found["digest"], found["format_version"]
    return found


def text_of(content: dict[str, Any]) -> str:
    return json.dumps(with_digest({"format_version": MANIFEST_FORMAT, **content}))


def faults(content: dict[str, Any]) -> str | None:
    """Why a manifest is refused, in one line; None where it is not."""
    try:
        found = list(manifest_faults(parse_manifest(text_of(content), "here")))
    except ArtifactError as error:
        return str(error)
    return "; ".join(few(found)) or None


MAPPINGS = (
    "graphs",
    "prefill",
    "profiles",
    "weights",
    "versions",
    "files",
    "plans",
    "plugin_layers",
    "shapes",
    "quantized",
    "losses",
    "times",
)


def field_of(place: Place) -> str:
    """A place without the names and numbers of its entries: those of one field are alike."""
    words: list[str] = []
    for i, key in enumerate(place):
        is_entry = isinstance(key, int) or (i and place[i - 1] in MAPPINGS)
        is_entry |= place[0] == "weights" and i == 3
        words.append("*" if is_entry else str(key))
    return ".".join(words)


def few_places(content: dict[str, Any]) -> list[Place]:
    """Two places of every field."""
    seen = Counter[str]()
    found = []
    for place in places(content):
        seen[field_of(place)] += 1
        if seen[field_of(place)] <= 2:
            found.append(place)
    return found


BAD = (None, True, -1, 0, 1, 2**63, 10**400, 0.5, 1e308, "", "x", "../x", [], [[None]], {"a": 1})
Change = tuple[str, Callable[[Any, Any], None]]
CHANGES: list[Change] = [
    *((f"{value!r:.20}", set_to(value)) for value in BAD),
    ("removed", removed),
    ("renamed", renamed("other")),
]
SILENT = {
    "another model or checkpoint": {"family", "versions", "versions.*"},
    "what was measured, or that nothing was": {
        "figures",
        "figures.accuracy",
        "figures.accuracy.task",
        "figures.accuracy.metric",
        "figures.accuracy.against",
        "figures.accuracy.clips.name",
        "figures.accuracy.clips.count",
        "figures.accuracy.clips.recordings",
        "figures.accuracy.clips.longest_seconds",
        "figures.accuracy.least_recordings",
        "figures.accuracy.losses",
        "figures.accuracy.losses.*",
        "figures.accuracy.losses.*.value",
        "figures.accuracy.losses.*.low",
        "figures.accuracy.losses.*.high",
        "figures.accuracy.losses.*.budget",
        "figures.latency",
        "figures.latency.machine.device",
        "figures.latency.machine.cpu",
        "figures.latency.machine.threads",
        "figures.latency.new_tokens",
        "figures.latency.times",
        "figures.latency.times.*",
        "figures.latency.times.*.*",
        "figures.latency.times.*.*.beams",
        "figures.latency.times.*.*.audio_seconds",
        "figures.latency.times.*.*.milliseconds",
    },
    "other figures": {
        "decoder.dims.intermediate_size",
        "profiles.*.profile.reference_text_tokens",
        "engines.plans.*.seconds",
        "engines.plans.*.peak_bytes",
        "engines.plans.*.plugin_layers",
        "engines.plans.*.plugin_layers.*",
        "engines.plans.*.quantized",
        "engines.plans.*.quantized.*",
        "engines.reproducible",
        "engines.verified_on",
    },
    "what the bound of the memory of a request is computed from": {
        "tower.window.hidden_size",
        "tower.window.num_heads",
        "tower.window.intermediate_size",
        "tower.window.attention_rows",
        "tower.window.image_channels",
        "tower.window.numbers_per_row",
        "tower.window.fixed_numbers",
    },
    "what prefills tell, which is compared with their tensors": {"decoder.row_maps"},
    "other limits": {
        "decoder.max_positions",
        "decoder.trained_positions",
        "engines.max_beams",
        "engines.max_batch",
        "engines.max_audio_seconds",
        "engines.max_audio_rows",
        "engines.max_text_rows",
        "engines.max_new_tokens",
    },
    "other defaults of a search": {
        "generation",
        *(f"generation.{name}" for name in SearchOptions.__dataclass_fields__),
    },
    "other tokens": {
        "decoder.eos_token_ids",
        "decoder.eos_token_ids.*",
        "prompt",
        "prompt.audio_token_ids",
        "prompt.audio_token_ids.*",
        "prompt.audio_place",
        "prompt.audio_place.begin",
        "prompt.audio_place.end",
        "prompt.first_id_after_audio",
        "prompt.default_prompt",
        "prompt.seconds_mark",
        "prompt.refused_marks",
        "prompt.refused_marks.*",
        "profiles.*.profile.include_audio_bos",
    },
    "the sizes and files of the folder, which are compared when it is opened": {
        "files.*",
        "files.*.size",
    },
    "graphs of another backend": {"graphs.*"},
    "what the graph is compared with": {
        "decoder.dims.hidden_size",
        "decoder.dims.num_kv_heads",
        "decoder.dims.head_dim",
        "front_end.log_mel.num_mel_bins",
        "weights.*.encoder",
        "weights.*.encoder.*",
        "weights.*.encoder.*.shape",
        "weights.*.encoder.*.shape.*",
        "weights.*.decoder",
        "weights.*.decoder.*",
        "weights.*.decoder.*.shape",
        "weights.*.decoder.*.shape.*",
    },
    "what the encoder is compared with": {
        "front_end.log_mel.hop_length",
        "front_end.log_mel.window_seconds",
        "front_end.log_mel.frames_per_row",
        "front_end.log_mel.full_windows",
        "front_end.log_mel.chunk_frames",
        "front_end.log_mel.least_samples",
        "front_end.log_mel.cuts",
        "front_end.rows_per_token",
        "front_end.tokens_per_group",
        "front_end.bos_rows",
        "front_end.eos_rows",
    },
    "how much audio the model hears": {"front_end.most_windows"},
    "what the plans and the machine are compared with": {
        "engines",
        "engines.machine.version",
        "engines.machine.sm",
        "engines.plugin_library",
        "engines.plugin_abi",
        "engines.plans.*.layer_ratios.*",
        "engines.plans.*.shapes",
        "engines.plans.*.shapes.*",
        "engines.plans.*.shapes.*.*.*",
    },
}
"""What a manifest may say without a fault: why that is harmless -> the fields."""


@pytest.fixture(scope="module")
def accepted(content: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """The changed manifests in which nothing is found: by field, then by change."""
    assert faults(content) is None
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for place in few_places(content):
        for name, change in CHANGES:
            mutant = changed(content, place, change)
            words = "the same" if mutant == content else faults(mutant)
            if words is None:
                found.setdefault(field_of(place), {})[name] = mutant
            elif "Error" in words or len(words) > 3000:
                pytest.fail(f"{place} {name}: {words}")
    return found


def test_each_field_with_values_that_it_cannot_have(
    accepted: dict[str, dict[str, dict[str, Any]]], content: dict[str, Any]
) -> None:
    """Any other error than the project's ends the fixture."""
    assert len(few_places(content)) > 150
    assert accepted.keys() <= set().union(*SILENT.values())


def test_what_is_accepted_does_no_harm(
    accepted: dict[str, dict[str, dict[str, Any]]], with_plans: Path, tmp_path: Path
) -> None:
    """A model loads and answers, or an error of the project says why not."""
    folder = Path(shutil.copytree(with_plans, tmp_path / "artifact"))
    for field, mutants_of_it in accepted.items():
        if not field.startswith(("engines.", "versions.")):
            for mutant in mutants_of_it.values():
                answered(lambda mutant=mutant: answer(folder, mutant))


def answer(folder: Path, content: dict[str, Any]) -> object:
    """What a folder with this manifest shows and answers."""
    write(folder, content)
    for _ in artifact_sections(open_artifact(folder), "whole"):
        pass
    with SpeechLM.load(folder, threads=1) as model:
        return model.generate(SOUND, "hello", max_new_tokens=2)


def write(folder: Path, content: dict[str, Any]) -> None:
    (folder / FILE_NAME).write_text(text_of(content), "utf-8")


@pytest.mark.parametrize(
    ("place", "value", "fault"),
    [
        (("decoder", "dims", "num_layers"), 0, "num_layers is 0: give a whole number of at least 1"),
        (("decoder", "dims", "vocab_size"), 2**40, "vocab_size is 1099511627776: give at most 16777216"),
        (("decoder", "dims", "num_kv_heads"), 3, "4 heads cannot share 3 KV heads"),
        (("decoder", "eos_token_ids"), [10**6], "eos_token_ids: 1000000 is not one of "),
        (
            ("decoder", "long_context"),
            {"trained_rows": 0, "dynamic_ntk": True, "log_n": False},
            "long_context.trained_rows is 0: give a whole number of at least 1",
        ),
        (
            ("decoder", "long_context"),
            {"trained_rows": 1, "dynamic_ntk": False, "log_n": True},
            "long_context.trained_rows is 1: give a whole number of at least 2",
        ),
        (("prompt", "template"), "{prompt}", "prompt: template holds {audio} 0 times, 1 expected"),
        (("prompt", "audio_place", "begin"), "", "prompt: audio_place.begin is empty"),
        (("front_end", "eos_rows"), 1023, "front_end: 1023 rows around the audio leave it no room in 1023"),
        (("front_end", "log_mel", "n_fft"), 10**6, "n_fft is 1000000: give at most 65536"),
        (("profiles", "full", "profile", "name"), "half", "full.profile.name is 'half', not 'full'"),
        (("profiles", "full", "ratios"), ["0"], "full.ratios has 1 entries, not one for each of 4 layers"),
        (("profiles", "full", "ratios", 2), "1/2", "full.ratios[2] is 1/2, not 0"),
        (("profiles",), {}, "profiles is empty"),
        (("graphs", "onnxruntime", "precision"), "fp8", "precision is 'fp8'; known are fp32, fp16, bf16"),
        (("graphs", "onnxruntime", "weights"), "fp16", "weights is 'fp16', and there is no such table"),
        (("graphs", "onnxruntime", "decode"), "x.onnx", "decode is 'x.onnx', which is not among the files"),
        (("graphs", "onnxruntime", "prefill"), {}, "prefill has none for 'dense-constant-20', 'full', "),
        (("weights", "fp32", "origin"), "found", "origin is 'found'; known are linked, copied, converted"),
        (("files", "config.json", "blake3"), "0" * 63, "blake3 is '000"),
        (("files", "config.json", "size"), -1, "files.config.json.size is -1: give a whole number"),
        (("engines", "precision"), "fp64", "engines.precision is 'fp64'"),
        (("engines", "max_audio_seconds"), 0, "max_audio_seconds is 0: it must be above 0"),
        (("engines", "plugin_library"), "plugins.so", "is 'plugins.so', which is not among the files"),
        (
            ("engines", "plans", "encoder", "shapes", "mel"),
            [[1], [3], [2]],
            "shapes.mel is ((1,), (3,), (2,))",
        ),
        (("engines", "machine", "product"), "cuda", "product is 'cuda'; known are tensorrt_rtx, tensorrt"),
        (("versions", "numpy"), "\x1b[2J", r"versions.numpy is '\x1b[2J': it is no text in one line"),
        (("figures", "accuracy", "metric"), "a\nb", "accuracy.metric is 'a\\nb': it is no text in one line"),
        (("figures", "accuracy", "against"), "own-30", "against is 'own-30', which removes rows"),
        (("figures", "accuracy", "against"), "own-30", "losses.own-30: the others are compared with it"),
        (("figures", "accuracy", "clips", "digest"), "0", "clips.digest is '0': it is no SHA-256"),
        (("figures", "accuracy", "clips", "count"), 0, "clips.count is 0: give a whole number of at least 1"),
        (("figures", "accuracy", "clips", "recordings"), 0, "clips.recordings is 0: give a whole number"),
        (("figures", "accuracy", "clips", "recordings"), 41, "recordings is 41, more than the 40 clips"),
        (("figures", "accuracy", "clips", "longest_seconds"), 0, "longest_seconds is 0: it must be above 0"),
        (
            ("figures", "accuracy", "least_recordings"),
            0,
            "least_recordings is 0: give a whole number of at least 1",
        ),
        (("figures", "accuracy", "losses"), {"half": LOSS}, "losses has 'half', which is no profile"),
        (("figures", "accuracy", "losses", "own-30", "low"), None, "own-30: an interval has two ends"),
        (("figures", "accuracy", "losses", "own-30", "low"), 2, "own-30.low is 2, above high, 0.9"),
        (("figures", "accuracy", "losses", "own-30", "budget"), -1, "budget is -1: it must not be negative"),
        (("figures", "latency", "machine", "device"), "", "machine.device is '': it is no text in one line"),
        (("figures", "latency", "machine", "threads"), 0, "threads is 0: give a whole number of at least 1"),
        (("figures", "latency", "new_tokens"), 0, "new_tokens is 0: give a whole number of at least 1"),
        (("figures", "latency", "times"), {"half": []}, "times has 'half', which is no profile"),
        (("figures", "latency", "times"), {"full": []}, "times.full is empty"),
        (
            ("figures", "latency", "times", "full", 0, "milliseconds"),
            0,
            "milliseconds is 0: it must be above",
        ),
        (("figures", "latency", "times", "full", 0, "beams"), 9, "times.full: beams and seconds do not rise"),
        (("figures", "latency", "times", "full", 0, "audio_seconds"), 30, "full: beams and seconds do not r"),
        (("figures", "more"), 1, "figures.more is unknown"),
        (("more",), 1, "more is unknown"),
        (("decoder", "dims", "more"), 1, "decoder.dims.more is unknown"),
        (("profiles", "full", "ratio"), "2/4", "ratio is '2/4', not a share"),
    ],
)
def test_what_cannot_be_is_named_with_its_place(
    content: dict[str, Any], with_plans: Path, tmp_path: Path, place: Place, value: Any, fault: str
) -> None:
    if place == ("front_end", "eos_rows"):
        content = changed(content, ("decoder", "max_positions"), set_to(1023))
    write(tmp_path, changed(content, place, set_to(value)))
    with pytest.raises(ArtifactError) as caught:
        open_artifact(tmp_path)
    words = str(caught.value)
    assert words.startswith(f"{tmp_path / FILE_NAME}: ")
    assert fault in words
    assert words.endswith("build the artifact again")


def test_a_manifest_without_figures_is_as_it_was_before_there_were_any(content: dict[str, Any]) -> None:
    manifest = parse_manifest(text_of(content), "here")
    assert manifest.figures == FIGURES
    plain = replace(manifest, figures=None)
    written = json.loads(plain.to_json())
    assert "figures" not in written
    assert written["format_version"] == MANIFEST_FORMAT
    assert parse_manifest(plain.to_json(), "here") == plain
    assert parse_manifest(manifest.to_json(), "here") == manifest
    assert manifest.digest == plain.digest == written["digest"] != json.loads(manifest.to_json())["digest"]


def test_a_text_for_a_prompt_adapter_is_there_where_something_reads_it(content: dict[str, Any]) -> None:
    whole = changed(content, ("prompt", "audio_place"), set_to(None))
    told = changed(whole, ("prompt", "adapter_template"), set_to("{prompt}"))
    folded = ("decoder", "folded_prompt"), set_to({"text": "hi", "adapter_ids": [1]})
    assert "adapter_template is '{prompt}', which does not fit the decoder" in (faults(told) or "")
    assert "adapter_template is None, which does not fit" in (faults(changed(whole, *folded)) or "")
    assert faults(whole) is faults(changed(told, *folded)) is None


@pytest.mark.parametrize(
    ("place", "value", "fault"),
    [
        (
            ("decoder", "dims", "hidden_size"),
            32,
            "encoder.onnx: its tensors are not those of the manifest: aud",
        ),
        (
            ("decoder", "dims", "head_dim"),
            8,
            "decode.onnx: its tensors are not those of the manifest: prefix_k",
        ),
        (("front_end", "log_mel", "num_mel_bins"), 80, "mel is [128, 'frames'] in it and [80, 'frames'] in"),
        (
            ("front_end", "eos_rows"),
            1,
            "rows came of a window of 25, where the front end of the manifest says",
        ),
    ],
)
def test_what_graphs_alone_know_is_compared_with_them(
    content: dict[str, Any], with_plans: Path, tmp_path: Path, place: Place, value: Any, fault: str
) -> None:
    folder = Path(shutil.copytree(with_plans, tmp_path / "artifact"))
    with pytest.raises(ArtifactError) as caught:
        answer(folder, changed(content, place, set_to(value)))
    assert fault in str(caught.value)


@pytest.mark.parametrize("text", ["{}", '{"model": {"type": "none"}}', "[" * 9999, "\xff"])
def test_a_tokenizer_that_is_none_is_named(
    content: dict[str, Any], with_plans: Path, tmp_path: Path, text: str
) -> None:
    folder = Path(shutil.copytree(with_plans, tmp_path / "artifact"))
    (folder / "tokenizer.json").write_text(text, "latin-1")
    record = to_json(record_of(folder / "tokenizer.json"))
    with pytest.raises(ArtifactError, match=r"tokenizer\.json: it is no tokenizer"):
        answer(folder, changed(content, ("files", "tokenizer.json"), set_to(record)))


TENSOR = ("weights", "fp32", "encoder", "audio_tower.conv1.bias")


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("file", "decode", "file is 'decode', which is not among the files"),
        ("offset", 2**40, "is bytes 1099511627776 to 1099511627904 of a file of "),
        ("offset", 0, "is bytes 0 to 128 of a file of "),
        ("shape", [10**9, 10**9], "is bytes "),
        ("shape", [0], "shape is [0]: it is no shape of a tensor"),
        ("shape", [1] * 9, "it is no shape of a tensor"),
        ("shape", [33], "overlap in 'weights/model.safetensors'"),
    ],
)
def test_a_tensor_outside_of_its_place_is_named(
    content: dict[str, Any], field: str, value: Any, fault: str
) -> None:
    assert fault in (faults(changed(content, (*TENSOR, field), set_to(value))) or "")


def test_all_faults_are_told_at_once_up_to_a_few(content: dict[str, Any]) -> None:
    def worse(manifest: dict[str, Any]) -> None:
        manifest["decoder"] = changed(manifest["decoder"], ("dims", "head_dim"), set_to(0))
        manifest["profiles"], manifest["graphs"] = {}, {}
        manifest["files"] = dict.fromkeys(map(str, range(99)), next(iter(manifest["files"].values())))

    manifest = dict(content)
    worse(manifest)
    words = faults(manifest) or ""
    assert all(f"{part} is empty" in words for part in ("profiles", "graphs"))
    assert "head_dim is 0" in words
    assert "more faults" in words


OUTSIDE = [
    *("/etc/hostname", "../secret", "weights/../../secret", "..", ".", "", "./config.json", "weights//a"),
    *("weights/", "weights\\a", "a\0b", "a\nb", "manifest.json", "\u202egnp.exe", "CONFIG.json"),
    *("a" * 256, "ä" * 128, "a/" * 500 + "a"),
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_is_none_of_a_file_inside_is_refused_before_anything_is_opened(
    content: dict[str, Any], with_plans: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "secret").write_text("")
    folder = tmp_path / "artifact"
    folder.mkdir()
    record = content["files"]["config.json"]
    files = content["files"] | {name: record}
    write(folder, content | {"files": files, "engines": content["engines"] | {"plugin_library": name}})
    with opened_files() as found, pytest.raises(ArtifactError, match="files: "):
        open_artifact(folder)
    assert found == [str(folder / FILE_NAME)]


def test_a_manifest_that_was_damaged_is_told_in_a_line(content: dict[str, Any]) -> None:
    text = text_of(content).replace('"num_layers": 4', '"num_layers": -4')
    with pytest.raises(ArtifactError, match=r"^here: its content does not match its digest; build or copy"):
        parse_manifest(text, "here")


@pytest.mark.parametrize("text", ["[" * 10**6, '{"a":' * 500 + "1" + "}" * 500, "7" * 10**6, "NaN", "\udfff"])
def test_json_that_is_none_of_ours_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text, "utf-8", errors="surrogatepass")
    with pytest.raises(ArtifactError, match=r"manifest\.json: .*; build the artifact again"):
        open_artifact(tmp_path)


@pytest.mark.fuzz
@fuzz(60)
@given(data=st.data())
def test_any_change_of_a_manifest_is_refused_or_does_no_harm(
    with_plans: Path, content: dict[str, Any], data: st.DataObject
) -> None:
    mutant = data.draw(mutants(content))
    if isinstance(mutant, dict):
        assert_harmless(with_plans, mutant)


def assert_harmless(folder: Path, mutant: dict[str, Any]) -> None:
    """Refused without a look outside of the folder; or a model loads, and answers or says why not."""
    if faults(mutant) is None:
        answered(lambda: answer(folder, mutant))
