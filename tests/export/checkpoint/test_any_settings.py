"""Any value in any setting of a checkpoint: used, named, known to be irrelevant, or refused in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import WhisperFeatureExtractor

from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.model.families.family import load_model
from fastadasp.export.model.families.towers.vibevoice_tower import PARTS
from fastadasp.export.model.families.vibevoice_asr import MARKS
from fastadasp.profiles.errors import CheckpointError
from tiny_families import TINY

Place = tuple[Any, ...]  # keys and indices
FILES = ("config.json", "generation_config.json", "processor_config.json", "preprocessor_config.json")
CHANGED = ("x", 1.5)  # that no setting has
NONSENSE = (
    *(None, True, False, 0, -1, 1, 3, 2**31, 10**9, 2**63, 10**400, -1e308, float("nan"), float("inf")),
    *(
        "",
        "10000",
        "\ud800",
        "<|AUDIO|>",
        [],
        [1],
        [None],
        [[1]],
        {},
        {"a": 1},
        {"content": 1},
        {"type": [1]},
    ),
)
UNKNOWN = "of_another_model"  # that no object has
IRRELEVANT = {
    *("architectures", "dtype", "transformers_version", "_from_model_config", "processor_class"),
    *("initializer_range", "dropout", "attention_dropout", "activation_dropout"),  # of training
    *("layerdrop", "encoder_layerdrop"),
    *("use_cache", "output_attentions", "output_hidden_states"),  # how transformers runs
    *("bos_token_id", "pad_token_id", "eos_token_id"),  # the last stands in generation_config.json as well
    *("sliding_window", "max_window_layers", "pretraining_tp"),  # use_sliding_window is false; of training
    "tie_word_embeddings",  # a head is stored
    *("n_samples", "nb_max_frames", "return_attention_mask"),  # follow from others
}
"""Names that say nothing on what any of these checkpoints computes."""

TOKEN = None, "<|AUDIO|>", {}, {"a": 1}, {"type": [1]}
OTHER_TOKEN = None, "", "<|AUDIO|>", {}, {"a": 1}, {"type": [1]}
TAKEN: Mapping[str, Mapping[str, Sequence[object]]] = {
    "config.json": {
        "audio_config.encoder_attention_heads": (1,),
        "audio_config.scale_embedding": (False, 0),
        "audio_token_index": (3,),
        "text_config.layer_types": (None, []),
        "text_config.max_position_embeddings": (1, 3),
        "text_config.rms_norm_eps": (1,),
        "text_config.rope_parameters": (None, {}, {"a": 1}, {"content": 1}),
        "text_config.rope_parameters.rope_theta": (1, 3, 2**31, 10**9),
        f"text_config.rope_parameters.{UNKNOWN}": [it for it in NONSENSE if not isinstance(it, dict)],
        "text_config.use_sliding_window": (False, 0),
    },
    "generation_config.json": {"eos_token_id": (None, 0, 1, 3, [], [1])},
    "processor_config.json": {
        "feature_extractor": ({}, {"a": 1}, {"content": 1}, {"type": [1]}),
        "feature_extractor.padding_value": (False, 0),
        "feature_extractor.dither": (False, 0),
        **{"audio_token": TOKEN, "audio_bos_token": OTHER_TOKEN, "audio_eos_token": OTHER_TOKEN},
    },
}
"""File -> place -> what it may hold of `NONSENSE`; of other places irrelevant ones any, and all else none."""

OLDER_FILE = f"preprocessor_config.json: {UNKNOWN}"  # not read where the processor has a feature extractor
OWN_IRRELEVANT: Mapping[str, set[str]] = {
    "qwen2_audio": {OLDER_FILE},
    # The size of rows is that of text_config; the words are those of Whisper's decoder.
    "voxtral": {"config.json: hidden_size", "config.json: audio_config.vocab_size"},
    "audioflamingo3": set(),
    "aero": set(),
    # Of parts that speak or see; how videos and sections of positions, all equal for audio, go on.
    "qwen2_5_omni": {
        *("config.json: enable_audio_output", "config.json: talker_config", "config.json: token2wav_config"),
        *("config.json: thinker_config.vision_config", "config.json: thinker_config.vision_start_token_id"),
        "config.json: thinker_config.position_id_per_seconds",
        "config.json: thinker_config.seconds_per_chunk",
        "config.json: thinker_config.text_config.rope_parameters.mrope_section",
        *("config.json: thinker_config.user_token_id", "config.json: thinker_config.model_type"),
    },
    # Of the model that aligns words; its extractor hears whole clips.
    "qwen3_asr": {
        *("config.json: timestamp_token_id", "config.json: token_classification_bias"),
        "preprocessor_config.json: chunk_length",
    },
    "glmasr": {OLDER_FILE, "processor_config.json: audio_token"},  # config.json has its id
    # Noise that is not added, what training starts from, and tokens whose ids config.json has.
    "vibevoice_asr": {
        *(f"config.json: {part}_tokenizer_encoder_config.vae_std" for part in PARTS),
        *(f"config.json: {part}_tokenizer_encoder_config.layer_scale_init_value" for part in PARTS),
        *(f"processor_config.json: {mark}" for mark in MARKS),
    },
    # Of training, and of a Q-Former that reads text.
    "granite_speech": {
        "config.json: projector_config.hidden_dropout_prob",
        "config.json: projector_config.attention_probs_dropout_prob",
        "config.json: projector_config.max_position_embeddings",
        "config.json: projector_config.vocab_size",
    },
    # Of training; its processor has a token whose id config.json has, and nothing else.
    "fun_asr_nano": {
        *("config.json: audio_config.hidden_dropout", "config.json: adaptor_config.hidden_dropout"),
        *("config.json: adaptor_config.model_type", f"processor_config.json: {UNKNOWN}"),
    },
}
"""Family -> the places of others that say nothing, in its tiny checkpoint."""


@pytest.fixture(scope="module")
def whole(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint with a front end as transformers 5 saves it."""
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path_factory.mktemp("any") / "checkpoint"))
    extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=2).to_dict()
    extractor.pop("mel_filters", None)
    tokens = {f"{name}_token": f"<|{name}|>" for name in ("audio_bos", "audio_eos")}
    content = {"feature_extractor": extractor, "audio_token": "<|AUDIO|>", **tokens}
    (folder / "processor_config.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module", params=OWN_IRRELEVANT)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Its name and a checkpoint; without a chat template, for each of which a process would start."""
    if request.param == "qwen2_audio":
        return request.param, request.getfixturevalue("whole")
    folder = tmp_path_factory.mktemp(request.param)
    TINY[request.param].save(folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    return request.param, folder


def places(content: Any, place: Place = ()) -> Iterator[Place]:
    """Every setting of a file, in objects and lists, and one that each object lacks."""
    inner = [*content.items(), (UNKNOWN, None)] if isinstance(content, dict) else [*enumerate(content)]
    for key, value in inner:
        yield (*place, key)
        if isinstance(value, dict | list):
            yield from places(value, (*place, key))


def changed(text: str, place: Place, value: object) -> str:
    content = inner = json.loads(text)
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return json.dumps(content)


def settings_of(folder: Path, name: str, values: tuple[object, ...]) -> Iterator[tuple[Place, object]]:
    """Each setting of a file with each of the values, while the file holds it."""
    path = folder / name
    text = path.read_text()
    try:
        for place in places(json.loads(text)):
            for value in values:
                path.write_text(changed(text, place, value))
                yield place, value
    finally:
        path.write_text(text)


@pytest.mark.parametrize("name", FILES[:3])
def test_nonsense_is_refused_in_a_line_that_names_the_file(whole: Path, name: str) -> None:
    taken: dict[Place, list[object]] = {}
    for place, value in settings_of(whole, name, NONSENSE):
        values = taken.setdefault(place, [])
        try:
            load_model(Checkpoint(whole))
        except CheckpointError as error:
            if name not in (line := str(error)) or len(line) > 1000 or "\n" in line:
                pytest.fail(f"{place} {value!r:.50}: {line}")
        else:
            values.append(value)
    for place, values in taken.items():
        any_or_none = NONSENSE if {*IRRELEVANT, UNKNOWN} & {*place} else ()
        known = TAKEN[name].get(".".join(map(str, place)), any_or_none)
        assert repr(values) == repr([*known]), place  # NaN is not itself, and True is 1


def test_no_setting_is_lost_in_silence(family: tuple[str, Path]) -> None:
    name, folder = family
    before = repr(load_model(Checkpoint(folder)))  # in which functions that compute weights are left out
    lost = set[Place]()
    for file in FILES:
        if not (folder / file).exists():
            continue
        for place, _ in settings_of(folder, file, CHANGED):
            try:
                after = load_model(Checkpoint(folder))
            except CheckpointError:
                continue
            lost |= {(file, *place)} if repr(after) == before else set()
    outermost = (place for place in lost if not any(place[:i] in lost for i in range(1, len(place))))
    named = {
        f"{file}: {'.'.join(map(str, place))}" for file, *place in outermost if place[-1] not in IRRELEVANT
    }
    assert named == OWN_IRRELEVANT[name]


def test_an_id_that_the_tokenizer_lacks_is_refused(whole: Path) -> None:
    path = whole / "config.json"
    text = path.read_text()
    try:
        path.write_text(json.dumps(json.loads(text) | {"audio_token_index": 9999}))
        with pytest.raises(CheckpointError, match=r"tokenizer\.json: no token has the id 9999 that config"):
            load_model(Checkpoint(whole))
    finally:
        path.write_text(text)


def test_a_token_that_is_no_text_is_refused(whole: Path) -> None:
    path = whole / "tokenizer_config.json"
    text = path.read_text()
    try:
        for value in ("\ud800", {"content": 1}, [1]):
            path.write_text(json.dumps(json.loads(text) | {"bos_token": value}))
            with pytest.raises(CheckpointError, match=r"tokenizer_config\.json: .* is no token's text"):
                load_model(Checkpoint(whole))
    finally:
        path.write_text(text)
