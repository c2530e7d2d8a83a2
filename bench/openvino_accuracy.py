"""What a prefill in bf16 on OpenVINO costs the demo model: `eval` of both backends, compared clip by clip.

    python bench/openvino_accuracy.py             # a run that was stopped goes on; then python bench/page.py
    python bench/openvino_accuracy.py --again     # everything anew

Both answer the clips of `demo/evaluation_sets.py` (made first where they are missing, which needs espeak-ng)
from one artifact, with the same float32 weights and steps. Differences have 95 % intervals over the same
resamples, so they are paired.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from quantization import PARTS, ROOT, SETS, Part

from fastadasp.evaluation.figures.scores import Figure, score
from fastadasp.evaluation.results.evaluation import EvaluationResult
from fastadasp.evaluation.results.files import read_results
from fastadasp.runtime.environment import environment

PROFILES = "full", "dense-constant-50"
TARGETS = "onnxruntime,openvino"
SYSTEMS = {  # name -> options of `eval`; the first is what the others are compared with
    "onnxruntime fp32": ("--backend", "onnxruntime"),
    "openvino bf16": ("--backend", "openvino", "--precision", "bf16"),
}
FOLDER = ROOT / "build/openvino_accuracy"  # artifact and results of `eval`
OUTPUT = ROOT / "bench/results/openvino_accuracy.json"

Record = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, default=OUTPUT)
    parser.add_argument("--again", action="store_true", help="measure what has a result, too")
    parser.add_argument("--results-only", action="store_true", help="of the sets that have their results")
    options = parser.parse_args()
    if options.again:
        shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not (SETS / "synthetic-30.jsonl").is_file():
        _run(str(ROOT / "demo/evaluation_sets.py"), "-o", str(SETS))
    if not (FOLDER / "artifact").is_dir():
        words = ("demo/model", "-o", str(FOLDER / "artifact"), "--profile", ",".join(PROFILES))
        _command("build", *words, "--target", TARGETS)
    machine = environment(1)
    parts = [
        part for part in PARTS if not options.results_only or all(map(partial(has_result, part), SYSTEMS))
    ]
    records = [record for part in parts for record in measured(part)]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    missing = [part.title for part in PARTS if part not in parts]
    result = {"environment": asdict(machine), "not_measured": missing, "records": records}
    options.output.write_text(json.dumps(result, indent=1) + "\n")


def measured(part: Part) -> Iterator[Record]:
    """One record for each profile and system: its first metric, and how many answers are other texts."""
    found = {name: answered(part, name) for name in SYSTEMS}
    for profile in PROFILES:
        texts = {name: [r.answers[profile].text for r in each.records] for name, each in found.items()}
        records = next(iter(found.values())).records
        figures = score(
            part.task,
            [record.references for record in records],
            texts,
            recordings=[record.audio for record in records],
            languages=sorted({record.language for record in records} - {""}),
        )
        plain = next(iter(texts.values()))
        for name, answers in texts.items():
            changed = sum(one != other for one, other in zip(answers, plain, strict=True))
            case = {"set": part.title, "clips": len(records), "profile": profile, "system": name}
            yield {**case, **_figure(figures[name][0]), "changed": changed}


def result_file(part: Part, system: str) -> Path:
    """What `eval` writes."""
    return FOLDER / f"{part.clips}-{part.task}-{system}.json"


def has_result(part: Part, system: str) -> bool:
    """Whether it has."""
    return result_file(part, system).is_file()


def answered(part: Part, system: str) -> EvaluationResult:
    """The result file of one `eval`, which runs if there is none."""
    output, clips = result_file(part, system), SETS / f"{part.clips}.jsonl"
    if not output.is_file():
        begin = time.perf_counter()
        options = ("--task", part.task, "--profile", ",".join(PROFILES), "--threads", "1")
        words = ("--manifest", str(clips), *options, *SYSTEMS[system], "-o", str(output))
        _command("eval", str(FOLDER / "artifact"), *words)
        print(f"{part.title}, {system}: {time.perf_counter() - begin:.0f} s", flush=True)
    (file,) = read_results([output]).of(EvaluationResult)
    assert not file.found.failures, file.found.failures
    return file.found


def _figure(figure: Figure) -> Record:
    scale, change = figure.metric.scale, figure.delta
    found: Record = {"metric": figure.metric.title, "unit": figure.metric.unit}
    found["value"] = None if figure.value is None else figure.value * scale
    if change is not None and change.interval is not None:
        bounds = change.interval.low, change.interval.high
        found |= {"change": change.value * scale, "interval": [scale * each for each in bounds]}
    return found


def _command(*words: str) -> None:
    _run("-P", "-m", "fastadasp.export", *words)


def _run(*words: str) -> None:
    done = subprocess.run([sys.executable, *words], cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} exits with {done.returncode}\n{done.stdout}")


if __name__ == "__main__":
    main()
