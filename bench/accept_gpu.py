"""Acceptance on a GPU, in stages: each passes, fails, or says why it cannot run here.

    python bench/accept_gpu.py -o bench/results/gpu/accept_gpu.json
    python bench/accept_gpu.py --stages kernels plugins --budget-seconds 240
    python bench/accept_gpu.py --needs

It runs from a copy of the repository in which nothing is installed. The result file is written anew with each
finding. docs/accept_gpu.md says what the stages do, and what the exit code means.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from acceptance import needs
from acceptance.checkout import commit, provide_packages
from acceptance.child import child_main, run_stage
from acceptance.device import Device, NoDeviceError, find_device
from acceptance.records import FAILED, PASSED, Check, StageResult
from acceptance.stages import STAGES, Context, Finding

FORMAT = 1
PACKAGES = (
    *("fastadasp-export", "numpy", "torch", "triton", "onnx", "onnxruntime", "onnxruntime-gpu"),
    *("transformers", "tensorrt-rtx-cu13", "tensorrt", "cuda-bindings", "kernel-lens", "polygraphy"),
)


def main() -> int:
    """0 where nothing failed, even if nothing could run; 1 where a stage failed; 3: see --strict."""
    begin = time.monotonic()
    options = _arguments()
    if options.needs:
        print(*needs.lines(), sep="\n")
        return 0
    if options.child:
        name, sender, context = options.child
        child_main(name, int(sender), context)
        return 0
    with tempfile.TemporaryDirectory(prefix="accept-gpu-") as folder:
        packages = Path(folder) / "packages"
        packages.mkdir()
        provide_packages(packages)
        results = accept(options, Path(folder), begin)
    from acceptance.tables import show

    show(results)
    statuses = {result.status for result in results}
    return 1 if FAILED in statuses else 3 if options.strict and statuses != {PASSED} else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("build/accept_gpu.json"))
    parser.add_argument(
        "--stages", nargs="+", choices=STAGES, default=list(STAGES), metavar="STAGE", help=", ".join(STAGES)
    )
    parser.add_argument(
        "--budget-seconds", type=float, default=float("inf"), help="what does not fit is skipped by name"
    )
    parser.add_argument(
        "--needs", action="store_true", help="print what each stage needs, and which wheels to bring"
    )
    parser.add_argument(
        "--artifacts", type=Path, default=Path("build/accept"), help="for those of the demo, and logs"
    )
    parser.add_argument("--checkpoint", type=Path, help="of the latency table, if not random weights")
    parser.add_argument("--strict", action="store_true", help="exit code 3 unless every stage passed")
    parser.add_argument("--commit", help="of the copy, where git does not tell it")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def accept(options: argparse.Namespace, folder: Path, begin: float) -> list[StageResult]:
    """Every stage in order of worth; the result file holds what is known so far."""
    device, no_device = device_or_reason()
    header = _header(options, device, no_device)
    results: list[StageResult] = []
    for name in (name for name in STAGES if name in options.stages):
        work = folder / name
        work.mkdir()
        found: list[Check] = []

        def hear(finding: Finding, name: str = name, found: list[Check] = found) -> None:
            found += [finding] if isinstance(finding, Check) else []
            so_far = StageResult(name, "running", None, 0.0, tuple(found))
            write(options.output, header, [*results, so_far])

        print(f"{name}: {STAGES[name].about}", file=sys.stderr, flush=True)
        context = Context(
            work,
            options.artifacts.absolute(),
            options.checkpoint,
            device.uuid if device else None,
            device.sm if device else None,
            begin + options.budget_seconds,
        )
        results.append(run_stage(name, context, no_device, hear))
        write(options.output, header, results)
        print(f"{name}: {results[-1].status}", file=sys.stderr, flush=True)
    return results


def device_or_reason() -> tuple[Device | None, str | None]:
    """The GPU, or why there is none."""
    try:
        return find_device(), None
    except NoDeviceError as error:
        return None, str(error)


def _header(options: argparse.Namespace, device: Device | None, no_device: str | None) -> dict[str, Any]:
    return {
        "kind": "accept-gpu",
        "format_version": FORMAT,
        "command": shlex.join(["python", "bench/accept_gpu.py", *sys.argv[1:]]),
        "commit": options.commit or commit(),
        "time_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": asdict(device) if device else None,
        "no_device": no_device,
        "machine": {
            "platform": platform.platform(),
            "python": platform.python_version(),
            "cores": os.cpu_count(),
        },
        "packages": dict(_versions()),
    }


def _versions() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def write(output: Path, header: dict[str, Any], results: list[StageResult]) -> None:
    """The result file, whole at any moment."""
    output.parent.mkdir(parents=True, exist_ok=True)
    content = {**header, "stages": [result.to_json() for result in results]}
    part = output.with_name(f"{output.name}.part")
    part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
    part.replace(output)


if __name__ == "__main__":
    sys.exit(main())
