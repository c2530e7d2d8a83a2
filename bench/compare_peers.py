"""Ours beside transformers, onnxruntime-genai, Optimum for OpenVINO and llama.cpp: `make bench-peers`.

    python bench/compare_peers.py -o bench/results/peers.json
    python bench/compare_peers.py --models decoder --seconds 120 --threads 1 --rounds 1     # a quick look

Each system is a process of its own. All take turns, one request at a time, so that rounds alternate; where
memory does not hold them all, each has its rounds in one turn. Requests are of 64 tokens: on a decoder with
random weights (120 and 240 s of audio), on three layers of the shape of 7 billion parameters (30 s), and on
the demo from audio to text. Times are of CPU and by the clock, medians of the rounds after a warm-up; read
the ratios. Parts that the output has are kept unless they are measured anew, and what is measured so far is
written again and again. Peers are installed, and models written, into the folder: 20 GB with all models,
which are used again, but for our artifacts. A peer that cannot be installed or run is named with the reason.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import quiet
from compare import machine
from encoder import commit
from peers import install, models, tables, turns
from peers.cases import BEAMS, MODELS, NEW_TOKENS, THREADS, Part, parts
from peers.systems import PEERS, System, systems
from peers.worker import Loading, serve

ROOT = Path(__file__).parent.parent
PROGRAM = Path(__file__).with_name("llama_cpp.c")

Record = dict[str, Any]


def main() -> None:
    if sys.argv[1:2] == ["--process"]:
        process(*sys.argv[2:])
        return
    options = _arguments()
    folder: Path = options.folder.resolve()
    ready = {model: prepared(folder, model, options) for model in options.models}
    for part in parts(options.models, options.seconds, options.threads):
        record = None
        for record in measured(part, *ready[part.model], options):
            _keep(options.output, part, record)
        if record is not None:
            tables.show(record)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("build/peers.json"))
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "peers", help="of peers and models")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="others are kept")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--again", nargs="+", choices=PEERS, default=(), help="who write their files again")
    parser.add_argument("--seconds", type=int, nargs="+", default=(), help="of audio, where a model has them")
    parser.add_argument("--beams", type=int, nargs="+", default=list(BEAMS))
    parser.add_argument("--threads", type=int, nargs="+", default=list(THREADS))
    parser.add_argument("--rounds", type=int, help="fewer or more than a model has")
    quiet.add_option(parser)
    options = parser.parse_args()
    quiet.refuse_busy(parser, options)
    return options


def _keep(output: Path, part: Part, record: Record) -> None:
    """Parts that were measured before stay."""
    kept = json.loads(output.read_text())["parts"] if output.is_file() else {}
    result = {"new_tokens": NEW_TOKENS, "parts": {**kept, part.name: record}}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n")


def measured(
    part: Part, places: dict[System, turns.Place], absent: dict[str, str], options: argparse.Namespace
) -> Iterator[Record]:
    """One part, as far as it is measured."""
    before, of_ours = machine(part.threads), commit(ROOT)
    rounds = options.rounds or MODELS[part.model].rounds[part.seconds]
    turn = turns.Turns(part, places, options.beams, rounds, dict(absent))
    for records in turn:
        case = {
            **asdict(part),
            "rounds": min((r["rounds"] for r in records), default=0),
            "environment": before,
            "commit": of_ours,
        }
        yield {**case, "peers": turn.hellos, "not_here": turn.absent, "records": records}


def prepared(
    folder: Path, model: str, options: argparse.Namespace
) -> tuple[dict[System, turns.Place], dict[str, str]]:
    """Where each system runs, its files written; and why others cannot."""
    files = folder / "models" / model
    models.write_inputs(files, model)
    places, absent = {}, {}
    for system in systems(model, options.peers):
        try:
            place = _place(folder, files, system)
            turns.write(system, place, model, system.peer in options.again)
            places[system] = place
        except (install.NotHereError, turns.EndedError) as error:
            absent[system.name] = str(error)
            print(f"{system.name}: not here: {error}", file=sys.stderr, flush=True)
    return places, absent


def _place(folder: Path, files: Path, system: System) -> turns.Place:
    python = install.python(folder, PEERS[system.peer].environment)
    extra = install.llama_cpp(folder, PROGRAM) if system.peer == "llama.cpp" else ""
    return turns.Place(python, files, str(extra))


def process(mode: str, peer: str, form: str, model: str, threads: str, folder: str, extra: str) -> None:
    """What the process of a system does: write its files, or serve."""
    module = PEERS[peer].module
    if mode == "write":
        __import__(f"peers.{module}")
        sys.modules[f"peers.{module}"].write(Path(folder), form, model)
    else:
        serve(module, Loading(model, form, int(threads), Path(folder), extra))


if __name__ == "__main__":
    main()
