"""How the packages may depend on each other, and what a service needs to run an artifact."""

from __future__ import annotations

import ast
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = ("profiles", "plugins", "runtime", "export")
NOT_FOR_THE_RUNTIME = {"torch", "transformers", "onnx", "safetensors"}


def modules(folder):
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path):
    """Every imported name, relative ones resolved to `fastadasp.…`, with the line."""
    package = ("fastadasp", *path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            yield ".".join((*base, *(node.module or "").split("."))).strip("."), node.lineno


@pytest.mark.parametrize("folder", ORDER)
def test_imports_point_from_export_to_profiles(folder):
    later = {f"fastadasp.{name}" for name in ORDER[ORDER.index(folder) + 1 :]}
    against = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules(folder)
        for name, line in imports(path)
        if ".".join(name.split(".")[:2]) in later
    ]
    assert not against


def test_profiles_import_only_the_standard_library():
    foreign = {
        name.split(".")[0] for path in modules("profiles") for name, _ in imports(path)
    } - sys.stdlib_module_names
    assert foreign == {"fastadasp"}


def test_the_runtime_names_no_exporter_library():
    named = {name.split(".")[0] for path in modules("runtime") for name, _ in imports(path)}
    assert not named & NOT_FOR_THE_RUNTIME


def test_every_folder_is_typed():
    assert all((ROOT / folder / "py.typed").is_file() for folder in ORDER)


def test_a_clean_environment_with_the_core_alone_runs_an_artifact(tmp_path, tiny_artifact):
    """Only the core dependencies are installed, from the project's own metadata."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(ROOT)]
    subprocess.run(install, check=True)
    program = (
        "import sys, numpy as np\n"
        "from fastadasp.runtime import SpeechLM\n"
        f"model = SpeechLM.load({str(tiny_artifact)!r}, threads=1)\n"
        "audio = np.random.default_rng(0).standard_normal(16000).astype(np.float32) * 0.1\n"
        "result = model.generate(audio, 'transcribe', num_beams=3, max_new_tokens=5)\n"
        "assert result.hypotheses[0].tokens\n"
        f"assert not {NOT_FOR_THE_RUNTIME!r} & set(sys.modules), 'the exporter came along'\n"
        "print('ran')\n"
    )
    ran = subprocess.run([python, "-c", program], check=False, capture_output=True, text=True, cwd=tmp_path)
    assert ran.stdout.strip() == "ran", ran.stderr
    for arguments in (["inspect", str(tiny_artifact)], ["profiles", "show", "dense-decay-30"]):
        command = [python.with_name("fastadasp-export"), *arguments]
        subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
