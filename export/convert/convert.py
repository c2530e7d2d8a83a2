"""From a training checkpoint and a SentencePiece model to a folder that a build reads."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...profiles.errors import CheckpointError, OutputError
from ...runtime.artifact.artifact import TOKENIZER
from ..checkpoint.checkpoint import CONFIG, Checkpoint, Tensor
from ..folder import Notice, check_output, temporary_folder
from ..model.families.family import describe, say
from ..model.families.parts.originals import config_for
from .pickled import read_state
from .sentencepiece import read_tokenizer
from .shards import FORMATS, SHARD_BYTES, write_shards

Report = Callable[[str], None]
Torch = Any  # a torch.Tensor


def convert(
    source: Path,
    output: Path,
    tokenizer: Path,
    settings: Path | None = None,
    *,
    report: Report = lambda _: None,
    notice: Notice = lambda _: None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write config.json, tokenizer.json and safetensors, once they are known to describe a model.

    Number formats stay as they are. The file is mapped and copied tensor by tensor.

    Args:
        source: the file of torch.save.
        output: the folder to write, which must not exist.
        tokenizer: the SentencePiece model.
        settings: JSON whose values count instead of those that the tensors tell, section by section.
        report: called with the name of each stage as it begins.
        notice: called with what a run that was killed has left there, once it is removed.
        shard_bytes: about how large a file of weights becomes.

    Raises:
        CheckpointError: files that cannot be read, or are no model of a known family.
        OutputError: the folder exists or cannot be written.
    """
    if os.path.lexists(output):
        raise OutputError(f"output {output} exists; give another folder")
    check_output(output, False, notice)
    report("read tokenizer and names")
    words, state = read_tokenizer(tokenizer), read_state(source)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    config = config_for(shapes, lambda text: words.encode(text, add_special_tokens=False).ids)
    config = _merged(config, _settings(settings) if settings else {})
    with temporary_folder(output, False) as folder:
        (folder / CONFIG).write_text(json.dumps(config, indent=1), "utf-8")
        words.save(str(folder / TOKENIZER))
        _check(folder, source, state, output)
        report("write weights")
        write_shards(folder, state, shard_bytes)


def _check(folder: Path, source: Path, state: Mapping[str, Torch], output: Path) -> None:
    """Refuse what is no model of its family, before its weights are written; messages name the output."""
    described = Checkpoint(folder)
    described.tensors = {
        name: Tensor(name, source, FORMATS[str(tensor.dtype)], tuple(tensor.shape), 0)
        for name, tensor in state.items()
    }
    try:
        model = describe(described)
    except CheckpointError as error:
        fault = str(error).replace(f"checkpoint {folder}", str(source))
        remedy = (
            "; what the tensors do not tell is given with --config" if str(folder / CONFIG) in fault else ""
        )
        raise CheckpointError(fault.replace(str(folder), str(output)) + remedy) from None
    say(note.replace(str(folder), str(output)) for note in model.notes)


def _settings(file: Path) -> Mapping[str, Any]:
    """The content of the file of settings."""
    try:
        content = json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: not valid JSON ({error})") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: a JSON object is expected, this is a {type(content).__name__}")
    return content


def _merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with these changes; a section keeps what they do not name."""
    merged = {**settings, **changes}
    sections = [
        key for key in changes if isinstance(changes[key], dict) and isinstance(settings.get(key), dict)
    ]
    return {**merged, **{key: _merged(settings[key], changes[key]) for key in sections}}
