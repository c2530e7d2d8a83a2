"""How a server is started: what it says, what it refuses, and whose prompts it asks."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fastadasp.export.cli import main
from fastadasp.profiles.errors import RequestError
from fastadasp.serving.http.errors import ApiError
from fastadasp.serving.http.prompts import Prompts
from fastadasp.serving.models import Models
from fastadasp.serving.options import ServeOptions, is_loopback
from server_process import ServerProcess, form, serving

from .conftest import CLIP, SAID

KEY = "0123456789abcdef"


def refused(*words: object) -> str:
    """The line of a command that must not begin."""
    result = CliRunner().invoke(main, ["serve", *map(str, words)])
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    return result.stderr


def transcribed(server: ServerProcess, **fields: str) -> Any:
    body, headers = form({"model": "demo", **fields}, CLIP.read_bytes())
    return json.loads(server.ask("POST", "/v1/audio/transcriptions", body, headers).body)


def test_a_server_says_what_it_serves_and_where(demo_artifact: Path) -> None:
    options = ("--workers", 1, "--profile", "sparse-30", "--max-batch", 3, "--max-queue", 5)
    with serving(demo_artifact, *options) as server:
        said = "\n".join(server.lines)
        assert "models demo:sparse-30, demo:full, demo:dense-constant-50; demo alone is the first" in said
        assert f"address http://127.0.0.1:{server.port}, for this machine alone, without a key" in said
        assert (
            "1 worker of 1 thread on CPUExecutionProvider, each with up to 3 requests at once; 5 may" in said
        )
        assert "in segments beyond 30 s" in said
        assert "hint" not in said
        body, headers = form({"model": "demo"}, CLIP.read_bytes())
        found = server.ask("POST", "/v1/audio/transcriptions", body, headers)
        assert found.headers["x-fastadasp-profile"] == "sparse-30"


def test_a_server_without_a_prompt_says_that_nothing_is_asked(demo_artifact: Path) -> None:
    with serving(demo_artifact, "--workers", 1, prompt=None) as server:
        assert "hint: without --prompt" in "\n".join(server.lines)
        assert transcribed(server, prompt="<asr>")["text"] == SAID


def test_prompts_of_the_server_take_the_language_and_ask_for_translations(demo_artifact: Path) -> None:
    options = ("--workers", 1, "--translation-prompt", "<fr>")
    with serving(demo_artifact, *options, prompt="<{language}>") as server:
        assert transcribed(server, language="asr")["text"] == SAID
        assert transcribed(server)["error"]["param"] == "language"
        assert transcribed(server, language="<x>")["error"]["param"] == "language"
        assert transcribed(server, prompt="<asr>", language="en")["error"]["param"] == "language"
        body, headers = form({"model": "demo"}, CLIP.read_bytes())
        found = server.ask("POST", "/v1/audio/translations", body, headers)
        assert json.loads(found.body)["text"] == transcribed(server, prompt="<fr>")["text"]


def test_nothing_of_the_exporter_is_loaded(demo_artifact: Path) -> None:
    program = (
        "import sys\n"
        "sys.argv = ['fastadasp-export', 'serve', '--help']\n"
        "from fastadasp.export.cli import main\n"
        "main(standalone_mode=False)\n"
        "import fastadasp.serving.server, fastadasp.serving.pool.worker\n"
        "assert not {'torch', 'transformers', 'onnx', 'safetensors'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-P", "-c", program], check=True, capture_output=True)


def test_a_public_address_needs_a_key(demo_artifact: Path, tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.168.0.1", "example.com"):
        line = refused(demo_artifact, "--host", host)
        assert f"host is '{host}', which other machines may reach, and there is no key" in line
        assert "--api-key-file" in line
    (tmp_path / "keys").write_text(KEY)
    options = ("--workers", 1, "--host", "0.0.0.0", "--api-key-file", tmp_path / "keys")
    with serving(demo_artifact, *options) as server:
        assert "for clients with the key" in "\n".join(server.lines)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "holds none"),
        ("# none\n\n", "holds none"),
        ("short", "less than 16"),
        ("a key with ä......", "ASCII"),
    ],
)
def test_a_file_without_a_good_key_is_refused(
    demo_artifact: Path, tmp_path: Path, content: str, fault: str
) -> None:
    (tmp_path / "keys").write_text(content)
    assert fault in refused(demo_artifact, "--api-key-file", tmp_path / "keys")


def test_a_file_of_keys_that_is_not_there_is_named(demo_artifact: Path, tmp_path: Path) -> None:
    assert str(tmp_path / "none") in refused(demo_artifact, "--api-key-file", tmp_path / "none")


def test_a_port_that_is_taken_is_named(demo_artifact: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port}: Address already in use; give another --port" in refused(
            demo_artifact, "--port", port
        )


def test_what_is_no_artifact_is_refused(demo_artifact: Path, tmp_path: Path) -> None:
    assert "manifest" in refused(tmp_path, "--port", 0)
    assert "it has: full, dense-constant-50, sparse-30" in refused(demo_artifact, "--profile", "none")
    odd = shutil.copytree(demo_artifact, tmp_path / "a name with spaces")
    assert "give it a --name" in refused(odd, "--port", 0)


def test_an_artifact_that_a_worker_cannot_load_is_refused(demo_artifact: Path) -> None:
    line = refused(demo_artifact, "--port", 0, "--provider", "none")
    assert "execution provider none is not in this build of onnxruntime" in line


def test_all_faults_of_the_options_are_told_at_once() -> None:
    with pytest.raises(RequestError) as caught:
        ServeOptions(
            port=70000, workers=-1, deadline=0, hang_seconds=0.5, drain_seconds=float("inf"), name="a b"
        )
    text = str(caught.value)
    assert all(
        name in text for name in ("port", "workers", "deadline", "hang_seconds", "drain_seconds", "name")
    )


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        *((host, True) for host in ("127.0.0.1", "127.8.9.1", "::1", "localhost")),
        *((host, False) for host in ("0.0.0.0", "::", "", "localhost.example.com", "10.0.0.1")),
    ],
)
def test_addresses_of_this_machine(host: str, is_local: bool) -> None:
    assert is_loopback(host) is is_local


def test_names_of_models_are_those_of_profiles() -> None:
    models = Models("a:b", ("full", "half"), "half")
    assert models.ids == ("a:b:half", "a:b:full")
    asked = {name: models.asked_profile(name) for name in ("a:b", "a:b:full", "a", "a:b:none", ":full", "")}
    assert asked == {"a:b": "half", "a:b:full": "full", "a": None, "a:b:none": None, ":full": None, "": None}
    assert models.asked_profile("a:b:auto") == "auto"


def test_a_translation_is_not_asked_for_with_the_prompt_of_transcriptions() -> None:
    prompts = Prompts("<asr>")
    assert prompts.for_transcription(None, None) == "<asr>"
    assert prompts.for_transcription("<fr>", None) == "<fr>"
    with pytest.raises(ApiError, match="--translation-prompt"):
        prompts.for_translation(None)


def test_a_chat_without_a_text_is_told_what_the_prompt_of_the_server_lacks() -> None:
    assert Prompts("<asr>").for_chat(None) == "<asr>"
    prompts = Prompts("<{language}>")
    assert prompts.for_chat("<fr>") == "<fr>"
    with pytest.raises(ApiError, match="part of the type text") as caught:
        prompts.for_chat(None)
    assert caught.value.param == "messages"
