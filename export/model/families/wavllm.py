"""WavLLM: two audio encoders, and LLaMA in Meta's layout with LoRA whose strength the prompt decides.

Rotary positions turn pairs of neighbours. The original has no config.json: `convert` writes one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ....profiles.errors import ArtifactError, CheckpointError, RequestError
from ....profiles.flops import DecoderDims
from ....runtime.artifact.prompt import AUDIO, SYSTEM, Prompt
from ....runtime.decoding.options import SearchOptions
from ...checkpoint.checkpoint import Checkpoint
from ...checkpoint.contents import unused_tensors
from ...checkpoint.tokenizer import prompt_codec, tokenizer_file
from ..facts import Facts
from ..spec import DecoderLayer, DecoderSpec, Linear, LoRA, PromptAdapter, SpeechModelSpec
from .parts.generation import GENERATION, TAKEN
from .parts.settings import CONFIG_IRRELEVANT, Settings, eos_ids, refuse_faults, search_notes, shown
from .parts.wavllm_tower import LAYER_COUNTS as TOWER_LAYERS
from .parts.wavllm_tower import SECTIONS, WRAPPER, read_settings, read_tower
from .parts.whisper import Reader

BASE = "gpt_model.model_llama"
LAYER_COUNTS = {f"{BASE}.layers.": "text_config: num_hidden_layers", **TOWER_LAYERS}
PROJECTIONS = ("wq", "wk", "wv", "wo")  # those with LoRA
TEXT_DEFAULTS = {"rms_norm_eps": 1e-6, "rope_theta": 10000.0, "max_position_embeddings": 2048}
OWN_SECTIONS = ("lora_config", "prompt_adapter", "prompt_template", "generation")
WHOLE_IRRELEVANT = (*CONFIG_IRRELEVANT, *SECTIONS, "text_config", *OWN_SECTIONS)
BOUNDS = ("clamp_min", "clamp_max")
LEFT_IDS = "left_token_ids"
FIRST_EOS, FIRST_BANNED = "suppress_eos_at_first_token", "begin_suppress_tokens"

REFERENCE = None  # transformers has no such model
FACTS = Facts(
    name="WavLLM",
    state="tiny random weights: equal to a recording of the published code; the released model by its "
    "shapes alone, published weights never tried",
    token_rate="12.5",
    limits="2048 rows as published: 150 s of audio beside its own prompt; `--max-positions` goes beyond",
    prompts="its own template around the text; the text also decides how strong LoRA is (`--fold-prompt`)",
    notes="made of the training checkpoint by `convert`; the second encoder hears the whole clip at once",
)


def load(checkpoint: Checkpoint) -> SpeechModelSpec:
    """Describe a WavLLM checkpoint."""
    config, place = checkpoint.config, f"{checkpoint.folder}/config.json"
    whole = Settings(place, config, {})
    text = Settings(f"{place}: text_config", config.get("text_config", {}), TEXT_DEFAULTS)
    lora, adapter, template, generation = own = [
        Settings(f"{place}: {name}", config.get(name, {}), {}) for name in OWN_SECTIONS
    ]
    tower = read_settings(place, config, whole.count("sampling_rate"), whole.count("chunk_samples"))
    _require(whole, text, lora, adapter)
    dims, eos, prompt = _dims(text), eos_ids(whole), _prompt(whole, template)
    search = _search(generation, eos)
    refuse_faults(whole, text, *own, *tower.sections)
    weights = checkpoint.without(WRAPPER)
    decoder = _decoder(weights, text, dims, lora.count("r"), adapter)
    audio = read_tower(weights, tower, dims.hidden_size)
    return SpeechModelSpec(
        family="wavllm",
        decoder=decoder,
        encoder=audio.encoder,
        wave_encoder=audio.wave_encoder,
        front_end=audio.front_end,
        prompt=_checked(checkpoint, prompt, template.take(LEFT_IDS)),
        eos_token_ids=eos,
        generation=search,
        notes=(
            *whole.notes(WHOLE_IRRELEVANT),
            *tower.notes,
            *(note for section in (text, *own[:-1]) for note in section.notes(CONFIG_IRRELEVANT)),
            *_search_notes(generation),
            *_other_search(checkpoint),
            *unused_tensors(weights, LAYER_COUNTS),
        ),
    )


def _require(whole: Settings, text: Settings, lora: Settings, adapter: Settings) -> None:
    """What the graphs take for granted, and numbers of the right kind."""
    whole.require(audio_rows_between=["left", "right"])
    text.require(
        model_type="llama",
        hidden_act="silu",
        rope_interleaved=True,
        rope_scaling=None,
        attention_bias=False,
        mlp_bias=False,
        tie_word_embeddings=False,
    )
    lora.require(target_modules=list(PROJECTIONS), scaling="prompt_adapter")
    adapter.require(activation="gelu")
    for key in ("rms_norm_eps", "rope_theta"):
        text.number(key)
    for section, key in ((text, "max_position_embeddings"), (lora, "r"), (adapter, "hidden_size")):
        section.count(key)
    least, most = (_bound(adapter, key) for key in BOUNDS)
    if least > most:
        adapter.faults.append(f"{BOUNDS[0]} {least:g} is above {BOUNDS[1]} {most:g}")


def _decoder(
    checkpoint: Checkpoint, text: Settings, dims: DecoderDims, rank: int, adapter: Settings
) -> DecoderSpec:
    table = (dims.vocab_size, dims.hidden_size)
    return DecoderSpec(
        dims=dims,
        norm_eps=text.number("rms_norm_eps"),
        rope_theta=text.number("rope_theta"),
        attention_scale=dims.head_dim**-0.5,
        max_positions=text.count("max_position_embeddings"),
        embedding=checkpoint.tensor(f"{BASE}.tok_embeddings.weight", table),
        layers=tuple(_layer(checkpoint, dims, rank, f"{BASE}.layers.{i}") for i in range(dims.num_layers)),
        final_norm=checkpoint.tensor(f"{BASE}.norm.weight", (dims.hidden_size,)),
        head=Linear(checkpoint.tensor(f"{BASE}.output.weight", table)),
        rope_interleaved=True,
        prompt_adapter=_adapter(checkpoint, adapter, dims.hidden_size),
    )


def _dims(text: Settings) -> DecoderDims:
    heads, head_dim, hidden = (text.count(key) for key in ("num_attention_heads", "head_dim", "hidden_size"))
    kv_heads = text.count("num_key_value_heads") if "num_key_value_heads" in text.given else heads
    if head_dim % 2:
        text.faults.append(f"head_dim {head_dim} is odd, which rotary positions cannot be")
    if not heads * head_dim == kv_heads * head_dim == hidden:
        text.faults.append(
            f"{heads} heads and {kv_heads} KV heads of {head_dim} are not as wide as hidden_size {hidden}: "
            "one vector scales the LoRA of all four projections"
        )
    return DecoderDims(
        num_layers=text.count("num_hidden_layers"),
        hidden_size=hidden,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=text.count("intermediate_size"),
        vocab_size=text.count("vocab_size"),
    )


def _bound(adapter: Settings, key: str) -> float:
    value = adapter.take(key)
    if type(value) not in (int, float) or not abs(value) < 1e6:
        adapter.faults.append(f"{key} is {shown(value)}, a number is expected")
        return 0.0
    return float(value)


def _layer(checkpoint: Checkpoint, dims: DecoderDims, rank: int, base: str) -> DecoderLayer:
    d, m = dims.hidden_size, dims.intermediate_size

    def linear(name: str, rows: int, columns: int) -> Linear:
        return Linear(checkpoint.tensor(f"{base}.{name}.weight", (rows, columns)))

    def scaled(name: str) -> Linear:
        down = checkpoint.tensor(f"{base}.attention.{name}_lora_A", (d, rank))
        up = checkpoint.tensor(f"{base}.attention.{name}_lora_B", (rank, d))
        return Linear(linear(f"attention.{name}", d, d).weight, lora=LoRA(down, up))

    query, key, value, output = map(scaled, PROJECTIONS)
    return DecoderLayer(
        attn_norm=checkpoint.tensor(f"{base}.attention_norm.weight", (d,)),
        query=query,
        key=key,
        value=value,
        output=output,
        mlp_norm=checkpoint.tensor(f"{base}.ffn_norm.weight", (d,)),
        gate=linear("feed_forward.w1", m, d),
        up=linear("feed_forward.w3", m, d),
        down=linear("feed_forward.w2", d, m),
    )


def _adapter(checkpoint: Checkpoint, values: Settings, hidden: int) -> PromptAdapter:
    read, width = Reader(checkpoint), values.count("hidden_size")
    least, most = (_bound(values, key) for key in BOUNDS)
    return PromptAdapter(
        fc1=read.linear(f"{BASE}.scale_fc_1", (width, hidden)),
        fc2=read.linear(f"{BASE}.scale_fc_2", (hidden, width)),
        score=read.linear(f"{BASE}.scale_weight_attention", (1, hidden)),
        least=least,
        most=most,
    )


def _prompt(whole: Settings, template: Settings) -> Prompt | None:
    """Left text, audio and right text, whose first id the generator of the original replaces.

    None where there are faults.
    """
    left, right, own = (_text(template, key) for key in ("left_text", "right_text", "adapter_text"))
    adds_bos = _flag(template, "left_add_bos")
    replaces = _flag(template, "right_first_token_replaced_by_bos")
    system, bos = template.take("system_text"), whole.take("bos_token_id")
    if type(bos) is not int or bos < 0:
        whole.faults.append(f"bos_token_id is {shown(bos)}, a token id is expected")
    if template.faults or whole.faults:
        return None
    has_system = isinstance(system, str) and bool(system) and left.count(system) == 1
    try:
        return Prompt(
            template=left + AUDIO + right,
            audio_place=None,
            system_template=left.replace(system, SYSTEM) + AUDIO + right if has_system else None,
            first_ids=(bos,) if adds_bos else (),
            first_id_after_audio=bos if replaces else None,
            adapter_template=own,
        )
    except ArtifactError as error:
        template.faults.append(str(error))
        return None


def _checked(checkpoint: Checkpoint, prompt: Prompt | None, left_ids: object) -> Prompt | None:
    """The prompt, where there is a tokenizer, whose ids before the audio must be those of the config."""
    if prompt is None or tokenizer_file(checkpoint) is None:
        return None
    found = prompt_codec(checkpoint, prompt).encode("").before.tolist()
    if left_ids is not None and found != left_ids:
        raise CheckpointError(
            f"{checkpoint.folder}/tokenizer.json: the text before the audio begins with the ids {found[:8]}, "
            f"{LEFT_IDS} of config.json with {shown(left_ids)}; take the tokenizer of this checkpoint"
        )
    return prompt


def _text(section: Settings, key: str) -> str:
    value = section.take(key)
    if not isinstance(value, str) or any("\ud800" <= character <= "\udfff" for character in value):
        section.faults.append(f"{key} is {shown(value)}, a text is expected")
        return ""
    return value


def _flag(section: Settings, key: str) -> bool:
    value = section.take(key)
    if not isinstance(value, bool):
        section.faults.append(f"{key} is {shown(value)}, true or false is expected")
    return value is True


def _search(generation: Settings, eos: tuple[int, ...]) -> SearchOptions:
    """What the generator of the original does without being asked."""
    given = {name: generation.take(name) for name in TAKEN if generation.take(name) is not None}
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
    }
    if FIRST_EOS in generation.given and _flag(generation, FIRST_EOS):
        if FIRST_BANNED in values:
            generation.faults.append(f"{FIRST_EOS} beside {FIRST_BANNED}: give one of them")
        values[FIRST_BANNED] = eos
    try:
        search = SearchOptions(**values)
        search.resolved()
    except RequestError as error:
        generation.faults.append(str(error))
        return SearchOptions()
    return search


def _other_search(checkpoint: Checkpoint) -> Iterator[str]:
    """A line on the file that other families read: here a section of config.json has what it says."""
    if (file := checkpoint.folder / GENERATION).is_file():
        yield f"{file}: not used: the search of this family stands in config.json, section generation"


def _search_notes(generation: Settings) -> Iterator[str]:
    left = {key: value for key, value in generation.given.items() if key not in generation.used}
    yield from search_notes(generation.place, left)
