"""How the packages may depend on each other, and what a service needs to run an artifact."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from fastadasp.export.model.families.family import FAMILIES

ROOT = Path(__file__).parent.parent
ORDER = ("profiles", "plugins", "runtime", "evaluation", "serving", "export")
OF_THE_EXPORTER = {"torch", "transformers", "onnx", "safetensors"}
WIDEST = 14  # files of one folder, `__init__.py` aside; `commands/` has one a command


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


def test_only_a_family_names_what_is_its_own():
    """Its name, and what transformers calls its classes, modules and tensors."""
    families = ROOT / "export" / "model" / "families"
    words = {*FAMILIES, *FAMILIES.values(), "audio_tower", "multi_modal_projector", "language_model"}
    own = re.compile("|".join(sorted(words)), re.IGNORECASE)
    named = [
        f"{path.relative_to(ROOT)}:{number} {line.strip()}"
        for folder in ORDER
        for path in modules(folder)
        if not path.is_relative_to(families)
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if own.search(line)
    ]
    assert not named


def test_profiles_import_only_the_standard_library():
    foreign = {
        name.split(".")[0] for path in modules("profiles") for name, _ in imports(path)
    } - sys.stdlib_module_names
    assert foreign == {"fastadasp"}


@pytest.mark.parametrize("folder", ["runtime", "evaluation", "serving"])
def test_what_a_service_needs_names_no_exporter_library(folder):
    named = {name.split(".")[0] for path in modules(folder) for name, _ in imports(path)}
    assert not named & OF_THE_EXPORTER


def module_graph():
    """File -> the files that it imports, when it is loaded or when it runs."""
    files = {module_name(path): path.relative_to(ROOT) for folder in ORDER for path in modules(folder)}
    graph = {path: set() for path in files.values()}
    for path in files.values():
        package = ("fastadasp", *path.parent.parts)
        for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = ".".join((*package[: len(package) - node.level + 1], *filter(None, [node.module])))
                names = {f"{base}.{alias.name}" for alias in node.names}
                graph[path] |= {files[name] for name in names if name in files} or {files[base]}
    return graph


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("fastadasp", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def cycle_of(graph):
    """The nodes of one cycle, or an empty list."""
    done, path = set(), []

    def visit(node):
        if node in path:
            return path[path.index(node) :]
        if node in done:
            return []
        path.append(node)
        found = next(filter(None, map(visit, sorted(graph[node] - {node}))), [])
        path.pop()
        done.add(node)
        return found

    return [str(node) for node in next(filter(None, map(visit, sorted(graph))), [])]


def test_no_file_imports_itself_through_others():
    assert not cycle_of(module_graph())


@pytest.mark.parametrize(
    "folder", sorted({path.parent for top in ORDER for path in (ROOT / top).rglob("__init__.py")}), ids=str
)
def test_the_parts_of_a_folder_do_not_import_each_other_in_a_circle(folder):
    """A part is a file of the folder, or a folder in it with all that is below."""
    inside = folder.relative_to(ROOT)
    graph = {}
    for path, imported in module_graph().items():
        if path.is_relative_to(inside) and path.name != "__init__.py":
            parts = {other.relative_to(inside).parts[0] for other in imported if other.is_relative_to(inside)}
            graph.setdefault(path.relative_to(inside).parts[0], set()).update(parts - {"__init__.py"})
    assert not cycle_of(graph)


def test_no_command_imports_another():
    graph, folder = module_graph(), Path("export/commands")
    commands = {
        path
        for path in graph
        if path.parent == folder and "@click.argument" in (ROOT / path).read_text("utf-8")
    }
    assert len(commands) > 10
    taken = {path: graph[path] & commands for path in graph if path.parent == folder}
    assert not {str(path): found for path, found in taken.items() if found}


def test_no_folder_is_too_wide_to_read():
    folders = {path.parent for top in ORDER for path in modules(top)} - {ROOT / "export" / "commands"}
    wide = {folder.name: len(list(folder.glob("*.py"))) - 1 for folder in folders}
    assert max(wide.values()) <= WIDEST, wide


def test_each_folder_of_tests_stands_where_its_code_does():
    tested = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    of_code = {folder for folder in tested if folder.parts and folder.parts[0] in ORDER}
    assert of_code
    assert not [folder for folder in of_code if not (ROOT / folder).is_dir()]


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
        f"assert not {OF_THE_EXPORTER!r} & set(sys.modules), 'the exporter came along'\n"
        "print('ran')\n"
    )
    ran = subprocess.run([python, "-c", program], check=False, capture_output=True, text=True, cwd=tmp_path)
    assert ran.stdout.strip() == "ran", ran.stderr
    for arguments in (["inspect", str(tiny_artifact)], ["profiles", "show", "dense-decay-30"]):
        command = [python.with_name("fastadasp-export"), *arguments]
        subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
