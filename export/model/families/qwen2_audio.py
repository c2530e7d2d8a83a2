"""Qwen2-Audio, as transformers saves it: Whisper-like encoder, linear projector, Qwen2 decoder."""

from __future__ import annotations

from ....profiles.errors import CheckpointError
from ....profiles.flops import DecoderDims
from ....runtime.artifact.prompt import AudioPlace, Prompt
from ....runtime.audio.front_end import FrontEnd
from ...checkpoint.chat_template import TOKENIZER_SETTINGS, with_chat_template
from ...checkpoint.checkpoint import CONFIG, Checkpoint
from ...checkpoint.contents import unused_tensors
from ...checkpoint.tokenizer import token_id, token_text
from ..facts import Facts
from ..spec import DecoderLayer, DecoderSpec, Linear, SpeechModelSpec
from .parts.feature_extractor import (
    EXTRACTOR_IRRELEVANT,
    PROCESSOR,
    log_mel_of,
    read_extractor,
    require_whisper,
)
from .parts.generation import read_generation
from .parts.reference import LLAMA_LAYER, WHISPER_LAYER, Floats, Model, ModuleNames, TransformersReference
from .parts.settings import CONFIG_IRRELEVANT, Settings, eos_ids, refuse_faults, shown
from .parts.whisper import Sizes, pooled_head, read_encoder, transformers_names

TEXT_DEFAULTS = {
    "hidden_size": 4096,
    "intermediate_size": 22016,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 151936,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
}
AUDIO_DEFAULTS = {
    "d_model": 1280,
    "encoder_layers": 32,
    "encoder_attention_heads": 20,
    "encoder_ffn_dim": 5120,
    "num_mel_bins": 128,
    "max_source_positions": 1500,
}
ROPE_SECTIONS = ("rope_scaling", "rope_parameters")  # the newer one counts where both are there
ROPE_THETA = 10000.0
PREFIXES = {
    "model.language_model.model.": "language_model.model.",
    "model.language_model.": "language_model.model.",
    "model.audio_tower.": "audio_tower.",
    "model.multi_modal_projector.": "multi_modal_projector.",
    "lm_head.": "language_model.lm_head.",
    "language_model.model.": "language_model.model.",
    "language_model.lm_head.": "language_model.lm_head.",
    "language_model.": "language_model.model.",
}
"""How names of tensors begin in the layouts that transformers loads -> in the one that it has saved first."""

LAYER_COUNTS = {
    "audio_tower.layers.": "audio_config: encoder_layers",
    "language_model.model.layers.": "text_config: num_hidden_layers",
}
WHOLE_IRRELEVANT = (*CONFIG_IRRELEVANT, "text_config", "audio_config", "ignore_index", "vocab_size")
TEXT_IRRELEVANT = (*CONFIG_IRRELEVANT, "attention_dropout", "sliding_window", "max_window_layers")
AUDIO_IRRELEVANT = (
    *(*CONFIG_IRRELEVANT, "dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop"),
    *("num_hidden_layers", "layerdrop"),  # the first is another name of encoder_layers in older versions
)
PROCESSOR_IRRELEVANT = (
    *("feature_extractor", "audio_processor", "processor_class", "auto_map", "transformers_version"),
    "chat_template",  # read with the other files that may have one
)
PROCESSOR_TOKENS = {"audio_bos": "audio_bos_token", "AUDIO": "audio_token", "audio_eos": "audio_eos_token"}
"""What stands in the base template, in its order -> the setting of the processor that spells it."""

FULL = "full_attention"
AUDIO_TOKEN_ID = 151646
ROWS_PER_TOKEN = 2  # of the encoder: its average pooling
PROJECTOR = "multi_modal_projector.linear"


def encode_window(model: Model, features: Floats, frames: int) -> Floats:
    """One window of audio to decoder rows: (audio tokens, hidden_size); see `TransformersReference`."""
    import torch

    encoder, dtype = model.model.audio_tower, model.dtype
    rows, tokens = encoder._get_feat_extract_output_lengths(frames)
    mask = torch.zeros(encoder.max_source_positions, dtype=dtype)
    mask[rows:] = torch.finfo(dtype).min
    with torch.no_grad():
        window = torch.as_tensor(features).to(dtype)[None]
        hidden = encoder(window, attention_mask=mask.expand(1, 1, len(mask), -1)).last_hidden_state
        projected: Floats = model.model.multi_modal_projector(hidden)[0, :tokens].numpy()
    return projected


REFERENCE = TransformersReference(
    config_class="Qwen2AudioConfig",
    model_class="Qwen2AudioForConditionalGeneration",
    encoder=ModuleNames("model.audio_tower.layers.{i}", WHISPER_LAYER, "model.audio_tower.layer_norm"),
    decoder=ModuleNames("model.language_model.layers.{i}", LLAMA_LAYER, "model.language_model.norm"),
    encode_window=encode_window,
)


FACTS = Facts(
    name="Qwen2-Audio",
    state="tiny random weights: sequences and scores equal to transformers; settings of the real model read; "
    "its weights never had",
    token_rate="25",
    limits="`max_position_embeddings`, 8192 in the 7B model: 327 s of audio, less prompt and answer",
    prompts="the checkpoint's chat template, or `<|audio_bos|><|AUDIO|><|audio_eos|>` and the text",
    notes="audio of more than 30 s becomes several windows in one span; transformers reads the first window",
)


def load(checkpoint: Checkpoint) -> SpeechModelSpec:
    """Describe a Qwen2-Audio checkpoint."""
    config, place = checkpoint.config, f"{checkpoint.folder}/config.json"
    generation = read_generation(checkpoint)
    whole = Settings(place, config, {"audio_token_index": AUDIO_TOKEN_ID})
    text = Settings(f"{place}: text_config", config.get("text_config", {}), TEXT_DEFAULTS)
    audio = Settings(f"{place}: audio_config", config.get("audio_config", {}), AUDIO_DEFAULTS)
    extractor, processor = read_extractor(checkpoint), _processor(checkpoint)
    _require(text, audio, extractor)
    dims, sizes = _dims(text), _encoder_sizes(audio, text.count("hidden_size"))
    whole.alias("audio_token_index", "audio_token_id")
    audio_token_id = whole.count("audio_token_index")
    norm_eps, rope = text.number("rms_norm_eps"), _rope(text)
    text.count("max_position_embeddings")
    refuse_faults(whole, text, audio, rope)
    is_tied = any(section.take("tie_word_embeddings") for section in (text, whole))
    log_mel = log_mel_of(extractor, sizes)
    weights = checkpoint.renamed(PREFIXES)
    decoder = _decoder(weights, text, dims, norm_eps, rope.number("rope_theta"), is_tied)
    encoder = read_encoder(
        weights, transformers_names("audio_tower."), sizes, pooled_head(weights, sizes, PROJECTOR)
    )
    base = _prompt(checkpoint, audio_token_id, processor)
    prompt, prompt_notes = (None, ()) if base is None else with_chat_template(checkpoint, base)
    return SpeechModelSpec(
        family="qwen2_audio",
        decoder=decoder,
        encoder=encoder,
        front_end=FrontEnd(log_mel, ROWS_PER_TOKEN),
        prompt=prompt,
        eos_token_ids=eos_ids(
            (generation.place, generation.values), (text.place, text.values), (place, config)
        ),
        generation=generation.search,
        notes=(
            *whole.notes(WHOLE_IRRELEVANT),
            *text.notes(TEXT_IRRELEVANT),
            *audio.notes(AUDIO_IRRELEVANT),
            *rope.notes(()),
            *extractor.notes(EXTRACTOR_IRRELEVANT),
            *processor.notes(PROCESSOR_IRRELEVANT),
            *generation.notes(),
            *prompt_notes,
            *unused_tensors(weights, LAYER_COUNTS),
        ),
    )


def _require(text: Settings, audio: Settings, extractor: Settings) -> None:
    """What the graphs and the front end take for granted."""
    text.require(model_type="qwen2", hidden_act="silu", use_sliding_window=False, use_mrope=False)
    layers = text.take("layer_types")
    if layers is not None and not (isinstance(layers, list) and all(each == FULL for each in layers)):
        text.faults.append(f"layer_types {shown(layers)} are not supported (only {FULL!r})")
    audio.require(model_type="qwen2_audio_encoder", activation_function="gelu", scale_embedding=False)
    require_whisper(extractor)


def _processor(checkpoint: Checkpoint) -> Settings:
    return Settings(f"{checkpoint.folder}/{PROCESSOR}", checkpoint.optional_json(PROCESSOR), {})


def _encoder_sizes(audio: Settings, output_size: int) -> Sizes:
    audio.divides("encoder_attention_heads", "d_model")
    return Sizes(
        num_layers=audio.count("encoder_layers"),
        num_heads=audio.count("encoder_attention_heads"),
        hidden_size=audio.count("d_model"),
        intermediate_size=audio.count("encoder_ffn_dim"),
        num_mel_bins=audio.count("num_mel_bins"),
        max_positions=audio.count("max_source_positions"),
        output_size=output_size,
    )


def _prompt(checkpoint: Checkpoint, audio_token_id: int, processor: Settings) -> Prompt | None:
    """The base template: [bos] audio_bos AUDIO audio_eos, then the text of the request."""
    audio_token = token_text(checkpoint, audio_token_id)
    given = {name: _content(processor.place, processor.take(key)) for name, key in PROCESSOR_TOKENS.items()}
    if audio_token is None:
        return None
    if given["AUDIO"] not in (None, audio_token):
        raise CheckpointError(
            f"{processor.place}: audio_token is {shown(given['AUDIO'])}, but config.json gives audio the id "
            f"{audio_token_id}, which is {audio_token} in tokenizer.json; take the files of one checkpoint"
        )
    parts = [given[name] or audio_token.replace("AUDIO", name) for name in PROCESSOR_TOKENS]
    for name, part in zip(PROCESSOR_TOKENS, parts, strict=True):
        token_id(checkpoint, part, PROCESSOR if given[name] else CONFIG)
    settings = checkpoint.optional_json(TOKENIZER_SETTINGS)
    bos = _content(f"{checkpoint.folder / TOKENIZER_SETTINGS}", settings.get("bos_token")) or ""
    template = bos + parts[0] + "{audio}" + parts[2] + "{prompt}"
    return Prompt(template, AudioPlace(audio_token), (audio_token_id,))


def _content(place: str, token: object) -> str | None:
    """The text of a token as the files of a tokenizer and a processor give it, alone or in an object.

    Raises:
        CheckpointError: it is neither, or has characters that no text has.
    """
    text = token.get("content") if isinstance(token, dict) else token
    if text is None:
        return None
    if not isinstance(text, str) or any("\ud800" <= character <= "\udfff" for character in text):
        raise CheckpointError(f"{place}: {shown(token)} is no token's text; take the file of the original")
    return text


def _decoder(
    checkpoint: Checkpoint,
    text: Settings,
    dims: DecoderDims,
    norm_eps: float,
    rope_theta: float,
    is_tied: bool,
) -> DecoderSpec:
    base = "language_model.model"
    embedding_shape = (dims.vocab_size, dims.hidden_size)
    embedding = checkpoint.tensor(f"{base}.embed_tokens.weight", embedding_shape)
    head = "language_model.lm_head.weight"
    tied = head not in checkpoint.tensors and is_tied
    return DecoderSpec(
        dims=dims,
        norm_eps=norm_eps,
        rope_theta=rope_theta,
        attention_scale=dims.head_dim**-0.5,
        max_positions=text.count("max_position_embeddings"),
        embedding=embedding,
        layers=tuple(_layer(checkpoint, dims, f"{base}.layers.{i}") for i in range(dims.num_layers)),
        final_norm=checkpoint.tensor(f"{base}.norm.weight", (dims.hidden_size,)),
        head=Linear(embedding if tied else checkpoint.tensor(head, embedding_shape)),
    )


def _dims(text: Settings) -> DecoderDims:
    heads, hidden = text.count("num_attention_heads"), text.count("hidden_size")
    if text.values.get("head_dim") is None:
        text.divides("num_attention_heads", "hidden_size")
        text.values["head_dim"] = max(1, hidden // heads)
    text.divides("num_key_value_heads", "num_attention_heads")
    if (head_dim := text.count("head_dim")) % 2:
        text.faults.append(f"head_dim {head_dim} is odd, which rotary positions cannot be")
    return DecoderDims(
        num_layers=text.count("num_hidden_layers"),
        hidden_size=hidden,
        num_heads=heads,
        num_kv_heads=text.count("num_key_value_heads"),
        head_dim=head_dim,
        intermediate_size=text.count("intermediate_size"),
        vocab_size=text.count("vocab_size"),
    )


def _rope(text: Settings) -> Settings:
    """The rotary base, from every place where transformers has kept it; other scalings are refused."""
    given = {key: text.values[key] for key in ROPE_SECTIONS if text.take(key) is not None}
    theta = text.take("rope_theta")
    rope = Settings(f"{text.place}: rope", {"rope_theta": ROPE_THETA if theta is None else theta}, {})
    for key, values in given.items():
        section = Settings(key, values, {})
        section.require(rope_type="default", type="default", partial_rotary_factor=1.0, mrope_section=None)
        section.require(**{name: None for name, value in section.values.items() if isinstance(value, dict)})
        rope.faults += [f"{key}: {fault}" for fault in section.faults]
        rope.values |= section.values
        rope.given |= section.values
        rope.used |= section.used
    rope.number("rope_theta")
    return rope


def _layer(checkpoint: Checkpoint, dims: DecoderDims, base: str) -> DecoderLayer:
    d, m = dims.hidden_size, dims.intermediate_size

    def linear(name: str, rows: int, columns: int, bias: bool = False) -> Linear:
        weight = checkpoint.tensor(f"{base}.{name}.weight", (rows, columns))
        return Linear(weight, checkpoint.tensor(f"{base}.{name}.bias", (rows,)) if bias else None)

    return DecoderLayer(
        attn_norm=checkpoint.tensor(f"{base}.input_layernorm.weight", (d,)),
        query=linear("self_attn.q_proj", dims.query_width, d, bias=True),
        key=linear("self_attn.k_proj", dims.kv_width, d, bias=True),
        value=linear("self_attn.v_proj", dims.kv_width, d, bias=True),
        output=linear("self_attn.o_proj", d, dims.query_width),
        mlp_norm=checkpoint.tensor(f"{base}.post_attention_layernorm.weight", (d,)),
        gate=linear("mlp.gate_proj", m, d),
        up=linear("mlp.up_proj", m, d),
        down=linear("mlp.down_proj", d, m),
    )
