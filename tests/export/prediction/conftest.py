"""Settings of a decoder of 7B, as a folder without weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SEVEN_BILLION = {
    "model_type": "qwen2_audio",
    "audio_config": {"model_type": "qwen2_audio_encoder"},
    "audio_token_index": 151646,
    "text_config": {
        "model_type": "qwen2",
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": 156032,
        "max_position_embeddings": 8192,
    },
}


@pytest.fixture(scope="session")
def seven_billion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder with nothing but config.json."""
    folder = tmp_path_factory.mktemp("checkpoint")
    (folder / "config.json").write_text(json.dumps(SEVEN_BILLION), "utf-8")
    return folder
