"""What the README and the pages of docs/ tell a user to type works as it is written."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from fastadasp.export.cli import main
from fastadasp.profiles import METHODS, SCHEDULES, parse_profile
from fastadasp.profiles.keys import KEYS
from server_process import ServerProcess
from test_layout import ORDER
from training_files import write_training

ROOT = Path(__file__).parent.parent
README = "README.md"
DOCS = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
PAGES = [README, *DOCS]
DOCUMENTS = [*PAGES, "DESIGN.md", "CONTRIBUTING.md", "CHANGELOG.md", "demo/README.md", "demo/MODEL_CARD.md"]
WRITTEN_BY_A_SCRIPT = "docs/accuracy.md"  # bench/accuracy.py, which runs the commands on it for an hour
RUN_PAGES = [page for page in PAGES if page != WRITTEN_BY_A_SCRIPT]
COMMAND, POLYGRAPHY, CURL = "fastadasp-export ", "polygraphy ", "curl "
SERVE, ADDRESS = "fastadasp-export serve ", "localhost:8000"  # of a server, whose port is another one here
SET_UP = ("make ", "pip install ", "source ")  # a machine, which is there when tests run
OF_TENSORRT = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="needs the extra tensorrt-rtx")
NEEDS = {"docs/engines.md": OF_TENSORRT}


class Block(NamedTuple):
    language: str
    text: str

    @property
    def lines(self):
        """Commands, continued ones as one line."""
        return [line for line in self.text.replace("\\\n", " ").splitlines() if line.strip()]


class Page(NamedTuple):
    """A page that was run: where, and what its lines of shell and its blocks of Python printed."""

    folder: Path
    printed: dict[str, str]

    @property
    def text(self):
        return "\n".join(self.printed.values())


def read(page):
    return (ROOT / page).read_text("utf-8")


def blocks(page, *languages):
    found = re.findall(r"^```(\w*)\n(.*?)^```", read(page), re.MULTILINE | re.DOTALL)
    return [Block(*block) for block in found if block[0] in languages]


def commands(page):
    return [line for block in blocks(page, "sh") for line in block.lines]


def invoke(line):
    """Run a command line of ours within this process; return what it says."""
    result = CliRunner().invoke(main, shlex.split(line)[1:])
    verdicts = (0, 1) if " tune " in line else (0,)  # the demo's clips may say no
    assert result.exit_code in verdicts, f"{line}\n{result.output}"
    return result.output


def shell(line):
    """Run a line with the commands of this environment; return what it says."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    done = subprocess.run(
        ["bash", "-e", "-c", line], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextlib.contextmanager
def serving_as(line):
    """A server that a line starts, until the end of the block."""
    server = ServerProcess(*shlex.split(line)[2:])
    try:
        yield server
    finally:
        server.close()


def execute(program, names):
    """Run Python in the namespace that the blocks of a page share; return what it prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(program, "page", "exec"), names)
    return printed.getvalue()


def furnish(folder, page):
    """What a page finds: the demo of a clone, its own profile, a training, the artifact of the README."""
    (folder / "demo").symlink_to(ROOT / "demo")
    for block in blocks(page, "toml"):
        (folder / "mine.toml").write_text(block.text)
    typed = "\n".join(block.text for block in blocks(page, "sh", "python"))
    if "final.pt" in typed:
        write_training(folder)
    if re.search(r"\bART\b", typed) and "-o ART" not in typed:
        invoke(next(line for line in commands(README) if "-o ART" in line))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs a page in a folder of its own, once for all tests."""

    @cache
    def run(page):
        folder, names, printed = tmp_path_factory.mktemp("page"), {}, {}
        address = ADDRESS
        with contextlib.chdir(folder), contextlib.ExitStack() as servers:
            furnish(folder, page)
            for block in blocks(page, "sh", "python"):
                if block.language == "python":
                    printed[block.text] = execute(block.text.replace(ADDRESS, address), names)
                    continue
                for line in block.lines:
                    if line.startswith(SERVE):
                        server = servers.enter_context(serving_as(line))
                        printed[line], address = "\n".join(server.lines), f"localhost:{server.port}"
                    elif line.startswith(COMMAND):
                        printed[line] = invoke(line)
                    elif POLYGRAPHY in line or line.startswith(CURL):
                        printed[line] = shell(line.replace(ADDRESS, address))
        return Page(folder, printed)

    return run


@pytest.mark.parametrize("page", [pytest.param(page, marks=NEEDS.get(page, ())) for page in RUN_PAGES])
def test_everything_that_a_page_tells_to_type_runs_in_order(page, run):
    lines = {line for line in commands(page) if not line.startswith(SET_UP)}
    programs = {block.text for block in blocks(page, "python")}
    assert run(page).printed.keys() == lines | programs


def test_the_pages_run_every_command():
    typed = " ".join(line for page in RUN_PAGES for line in commands(page))
    assert not [name for name in main.commands if f"{COMMAND}{name} " not in typed]


def test_the_readme_lists_every_command():
    assert not [
        name for name in main.commands if not re.search(rf"^\|.*`{name}`", read(README), re.MULTILINE)
    ]


def test_the_readme_counts_the_methods_that_reduce():
    assert f"compares {len(METHODS) - 1} methods" in read(README)


def test_the_readme_installs_what_its_commands_need():
    """The column of extras in its table is what the lines above a command install."""
    installed = set()
    for line in commands(README):
        if line.startswith("pip install "):
            installed |= set(re.search(r"\[(.*)\]", line)[1].split(","))
        elif line.startswith(COMMAND):
            name = line.split()[1]
            row = re.search(rf"^\|[^|]*`{name}`[^|]*\|[^|]*\|([^|]*)\|", read(README), re.MULTILINE)
            assert set(re.findall(r"[\w-]+", row[1])) <= installed, line


def test_the_python_of_the_readme_prints_the_transcript(run):
    assert run(README).text.count("friday march") > 1


def test_the_python_of_the_evaluation_prints_its_figures(run):
    (program,) = blocks("docs/evaluation.md", "python")
    assert "dense-constant-50 WER " in run("docs/evaluation.md").printed[program.text]


@pytest.mark.parametrize("page", [README, "docs/profiles.md"])
def test_the_profile_of_a_page_is_valid(page):
    (profile,) = blocks(page, "toml")
    assert parse_profile(profile.text, "mine", page).method == "weighted_merge"


def test_the_reference_of_profiles_has_every_key_method_and_schedule():
    page = read("docs/profiles.md")
    rows = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert rows == {key.name for key in KEYS.values()} | set(METHODS)
    assert all(f"`{schedule}`" in page for schedule in SCHEDULES)


def test_onnx_runtime_agrees_with_the_saved_reference_within_the_tolerance_and_not_below(run):
    page = run("docs/check.md")
    compared = [line for line in commands("docs/check.md") if line.startswith("polygraphy run")]
    assert len(compared) == 3
    assert all("Pass Rate: 100.00%" in page.printed[line] for line in compared)
    assert "prefix_key.7" in page.text.partition("Graph Output")[2]
    stricter = compared[0].replace("1e-3", "1e-9")
    with contextlib.chdir(page.folder), pytest.raises(AssertionError, match="Mismatched outputs"):
        shell(stricter)


def test_the_requests_of_the_page_on_serving_are_answered(run):
    page = run("docs/serving.md")
    asked = [line for line in commands("docs/serving.md") if line.startswith("curl ")]
    answers = {line: page.printed[line] for line in asked if "transcriptions" in line}
    assert len(answers) == 4
    assert all("friday march six" in answer for answer in answers.values())
    assert not [line for line in asked if '"error"' in page.printed[line]]
    (program,) = blocks("docs/serving.md", "python")
    assert page.printed[program.text].splitlines()[-1].startswith("friday ")


@OF_TENSORRT
def test_a_graph_with_plugins_becomes_a_plan(run):
    assert (run("docs/engines.md").folder / "prefill.plan").stat().st_size > 10_000


def anchors(document):
    """The places in a document that a link may name: its headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.*)$", read(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_place_that_a_document_links_to_is_there(document):
    for target in re.findall(r"\]\(([^)]+)\)", read(document)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = ((ROOT / document).parent / name).resolve() if name else ROOT / document
        assert path.exists(), target
        assert not anchor or anchor in anchors(path.relative_to(ROOT)), target


def test_the_index_of_the_pages_lists_each_of_them():
    assert all(f"({Path(page).name})" in read("docs/README.md") for page in DOCS if page != "docs/README.md")


def texts_of(module):
    """What the string literals of a module hold, those of f-strings in parts."""
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_message_of_the_page_on_failures_stands_in_the_code():
    """Messages in backticks in the first column, in parts where they have `…`; but one of another package."""
    rows = re.findall(r"^\| (`.*?) \|", read("docs/troubleshooting.md"), re.MULTILINE)
    quoted = [text for row in rows if "of the package" not in row for text in re.findall("`(.*?)`", row)]
    parts = {part.strip() for text in quoted for part in text.split("…")} - {""}
    said = "\n".join(text for top in ORDER for path in (ROOT / top).rglob("*.py") for text in texts_of(path))
    assert len(quoted) > 10
    assert not [part for part in parts if part not in said]


def tree():
    """Every file and folder of the project."""
    for top in (*ORDER, "bench", "demo", "docs", "tests"):
        yield from (ROOT / top, *(ROOT / top).rglob("*"))


@pytest.mark.parametrize("document", ["DESIGN.md", "CONTRIBUTING.md"])
def test_every_file_and_folder_that_a_document_names_is_there(document):
    """A name in backticks that ends with .py or a slash is a path from the root, or the end of one."""
    named = set(re.findall(r"`([\w./-]+(?:\.py|/))`", read(document)))
    there = {f"/{path.relative_to(ROOT).as_posix()}{'/' * path.is_dir()}" for path in tree()}
    assert named
    assert not [name for name in named if not any(path.endswith(f"/{name}") for path in there)]
