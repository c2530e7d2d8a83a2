"""What an artifact holds, as tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from ...profiles.flops import ResolvedProfile
from ...profiles.signature import cache_names
from ..artifact.artifact import Artifact
from ..artifact.engines import Engines
from ..artifact.manifest import MANIFEST_FORMAT, FoldedAdapter, Manifest
from ..artifact.prompt import Prompt
from ..audio.front_end import FrontEnd
from ..decoding.options import SearchOptions
from .figures import figures_sections
from .tables import Section, columns
from .units import ABSENT, ranges, seconds, size

HASH_CHARACTERS = 12


def artifact_sections(artifact: Artifact, verified: str) -> Iterator[Section]:
    """Facts, profiles and files; `verified` says how they were checked."""
    facts = columns("", "", left=2, header=False)
    for name, text in (*_facts(artifact.manifest), ("verified", verified)):
        facts.add_row(name, text)
    yield Section(f"artifact {artifact.folder}", facts)
    yield _profiles(artifact.manifest.profiles.values())
    if artifact.manifest.figures:
        yield from figures_sections(artifact.manifest.figures)
    if artifact.manifest.engines:
        yield _engines(artifact.manifest, artifact.manifest.engines)
    yield _files(artifact.manifest)


def _facts(manifest: Manifest) -> Iterator[tuple[str, str]]:
    decoder, mel = manifest.decoder, manifest.front_end.log_mel
    dims = decoder.dims
    yield "family", f"{manifest.family}, {manifest.precision}, format version {MANIFEST_FORMAT}"
    yield "decoder", f"{dims.num_layers} layers, hidden {dims.hidden_size}, FFN {dims.intermediate_size}"
    yield "attention", f"{dims.num_heads} heads over {dims.num_kv_heads} KV heads of {dims.head_dim}"
    yield (
        "vocabulary",
        f"{dims.vocab_size}, end tokens {', '.join(map(str, decoder.eos_token_ids)) or 'none'}",
    )
    yield "longest audio", longest_audio(manifest.front_end, decoder.max_positions)
    if decoder.long_context:
        yield "long prompts", decoder.long_context.in_words
    if trained := decoder.trained_positions:
        yield "positions", f"{decoder.max_positions}; beyond {trained}, the checkpoint's own, extrapolated"
    yield "front end", mel.in_words
    yield from _prompt(manifest.prompt)
    yield "search", _search(manifest.generation)
    if decoder.folded_prompt:
        yield "folded prompt", f"{decoder.folded_prompt.text!r}: the only one, its LoRA is in the weights"
    for folded in manifest.adapters:
        yield "adapter", _adapter(folded)
    adapter = "prompt adapter, " if decoder.has_prompt_adapter else ""
    prefills = f"{len(manifest.profiles)} prefills, one per profile"
    maps = ", which say where rows come from (run --map)" if decoder.row_maps else ""
    if told := decoder.word_heads:
        yield (
            "words",
            f"heads {', '.join(f'{told.layer}.{head}' for head in told.heads)} say when words begin",
        )
    yield "graphs", f"{_encoders(manifest)}, decode step, {adapter}{prefills}{maps}"
    yield "targets", _targets(manifest)
    yield "weights", f"{', '.join(manifest.weight_origins)}, {size(_weight_bytes(manifest))}"
    yield "built with", ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    yield "digest", manifest.digest


def longest_audio(front_end: FrontEnd, positions: int) -> str:
    """What ends it: the positions of the decoder, or how much the model hears at once."""
    found, hears = front_end.seconds_of(positions), front_end.longest_seconds
    if found == hears:
        return f"{seconds(found)} s, all that the model hears at once ({positions} positions)"
    return f"{seconds(found)} s ({positions} positions), less prompt and new tokens"


def _prompt(prompt: Prompt | None) -> Iterator[tuple[str, str]]:
    """Templates and the default text, with line breaks as Python writes them."""
    if prompt is None:
        yield "prompt", "no tokenizer: token ids only"
        return
    yield "prompt", _in_a_line(prompt.template)
    if prompt.bare_template is not None:
        yield "without text", _in_a_line(prompt.bare_template)
    if prompt.system_template is not None:
        yield "with system", _in_a_line(prompt.system_template)
    yield "default prompt", "none" if prompt.default_prompt is None else _in_a_line(prompt.default_prompt)


def _in_a_line(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _search(generation: SearchOptions) -> str:
    """What a request has that leaves it out."""
    return ", ".join(f"{name} {value}" for name, value in generation.given.items()) or "greedy, no penalties"


def _adapter(folded: FoldedAdapter) -> str:
    """Which one is part of the weights."""
    rank = f"rank {', '.join(map(str, folded.ranks))}, " if folded.ranks else ""
    changed = f"{folded.changed} tensors changed"
    return f"{folded.name}, folded in: {rank}{changed}, BLAKE3 {folded.blake3[:HASH_CHARACTERS]}"


def _encoders(manifest: Manifest) -> str:
    """Those of the audio tower."""
    return "encoder, wave encoder" if manifest.front_end.wave else "encoder"


def _targets(manifest: Manifest) -> str:
    """The backends that the graphs are for, and that of the engines."""
    engines = [f"tensorrt (engines of {manifest.engines.machine.product})"] if manifest.engines else []
    return ", ".join((*manifest.graphs, *engines))


def _weight_bytes(manifest: Manifest) -> int:
    tables = [table for each in manifest.weights.values() for table in (each.encoder, each.decoder)]
    return sum(
        manifest.files[name].size for name in {place.file for table in tables for place in table.values()}
    )


def _profiles(profiles: Iterable[ResolvedProfile]) -> Section:
    table = columns("name", "method", "positions", "schedule", "layers: share of the rows removed", left=5)
    for resolved in profiles:
        profile = resolved.profile
        schedule = profile.schedule if resolved.places else ABSENT
        positions = profile.row_positions or ABSENT
        table.add_row(resolved.name, resolved.method, positions, schedule, _ratios(resolved))
    return Section("profiles", table)


def _ratios(resolved: ResolvedProfile) -> str:
    """Exact fractions, layers of one ratio together."""
    groups = groupby(resolved.reducing_layers, lambda layer: resolved.ratios[layer])
    shares = [(ranges(layers), ratio) for ratio, layers in groups]
    if resolved.input_ratio:
        shares.insert(0, ("input", resolved.input_ratio))
    return "\n".join(f"{place}: {ratio} = {float(ratio):.4f}" for place, ratio in shares) or ABSENT


def _engines(manifest: Manifest, engines: Engines) -> Section:
    table = columns("engine", "plugin layers", "longest inputs", "matrices", "size", "built in", left=4)
    caches = {name for layer in range(manifest.decoder.dims.num_layers) for name in cache_names(layer)}
    for name, plan in engines.plans.items():
        layers = ", ".join(f"{count} {layer}" for layer, count in plan.plugin_layers.items())
        shapes = (
            f"{tensor} {_shape(largest)}"
            for tensor, (_, _, largest) in plan.shapes.items()
            if tensor not in caches  # whose sizes follow from the others
        )
        built_in = f"{plan.seconds:.1f} s"
        plan_size = size(manifest.files[plan.file].size)
        matrices = "\n".join(f"{count} {form}" for form, count in plan.quantized.items())
        texts = layers or ABSENT, "\n".join(shapes), matrices or engines.precision
        table.add_row(name, *texts, plan_size, built_in)
    return Section(f"engines: {engines_title(engines)}", table, _engine_limits(engines))


def engines_title(engines: Engines) -> str:
    """What the plans are for, in a line."""
    machine = engines.machine
    repeatable = ", reproducible" if engines.reproducible else ""
    return f"{machine.product} {machine.version}, sm_{machine.sm}, {engines.precision}{repeatable}"


def _engine_limits(engines: Engines) -> str:
    library = f"plugins {engines.plugin_library}, version {engines.plugin_abi}; "
    verified = (
        f"ran on {engines.verified_on} and agreed" if engines.verified_on else "never ran: NOT VERIFIED"
    )
    limits = (
        f"{engines.max_batch} requests a step, {engines.max_beams} beams, {engines.max_new_tokens} new tokens"
    )
    audio = f"up to {engines.max_audio_seconds:g} s of audio"
    return f"{library if engines.plugin_library else ''}{audio}, {limits}; on a GPU: {verified}"


def _shape(sizes: Iterable[int]) -> str:
    return "x".join(map(str, sizes))


def _files(manifest: Manifest) -> Section:
    table = columns("name", "size", "BLAKE3")
    for name, record in manifest.files.items():
        table.add_row(name, size(record.size), record.blake3[:HASH_CHARACTERS])
    return Section("files", table)
