"""Write the tables of the pages that stand between markers, from the result files.

python bench/page.py
"""

from __future__ import annotations

import argparse
import json
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from compare import DTYPES
from peers import tables as peer_tables
from peers.cases import parts

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs"
RESULTS = ROOT / "bench" / "results"
README = "README.md"
LINE = 120

Result = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, help="a folder for all pages; else they stay in place")
    options = parser.parse_args()
    for page, sections in SECTIONS.items():
        path = (ROOT if page == README else PAGES) / page
        text = path.read_text("utf-8")
        for name, section in sections.items():
            text = placed(text, name, section(json.loads((RESULTS / f"{name}.json").read_text("utf-8"))))
        (options.output / page if options.output else path).write_text(text, "utf-8")


def placed(text: str, name: str, content: str) -> str:
    """The page with this content between the two markers of the name."""
    begin, end = f"<!-- from bench/results/{name}.json by bench/page.py -->\n", "\n<!-- end -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    found, count = pattern.subn(lambda _: f"{begin}\n{content}{end}", text)
    assert count == 1, f"there are {count} places for {name}"
    return found


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def quantized(result: Result) -> str:
    """Our formats beside transformers, in CPU time."""
    part = result["latency"]
    records = part["records"]
    totals = {(r["seconds"], r["beams"], r["system"]): r["total_cpu"] for r in records}
    greedy = {(r["seconds"], r["system"]): r["step_cpu"] for r in records if r["beams"] == 1}
    peers = [
        f"transformers {name}" for name in DTYPES if f"transformers {name}" in {r["system"] for r in records}
    ]
    rows = []
    for r in records:
        rows.append(
            [
                *(f"{r['seconds']} s", str(r["beams"]), r["system"]),
                *(f"{r['prefill_cpu']:.0f}", f"{r['step_cpu']:.1f}", f"{r['total_cpu']:.0f}"),
                *(f"{totals[r['seconds'], r['beams'], peer] / r['total_cpu']:.2f}x" for peer in peers),
                f"{r['step_cpu'] / greedy[r['seconds'], r['system']]:.2f}" if r["beams"] > 1 else "",
            ]
        )
    heads = ["audio", "beams", "system", "prefill", "step", "total", *(f"against {peer}" for peer in peers)]
    words = f"{where(part['environment'])} Medians of {part['runs']} runs after one of warm-up."
    return filled(words) + table([*heads, "step / greedy step"], rows)


def llama_cpp(result: Result) -> str:
    """Our formats beside those of llama.cpp, in CPU time."""
    records = {(r["system"], r["beams"]): r for r in result["records"]}
    beams = sorted({beams for _, beams in records})
    systems = list(dict.fromkeys(system for system, _ in records))
    rows = [
        [system, *(f"{records[system, b][f'{f}_cpu_ms']:.1f}" for f in ("prefill", "step") for b in beams)]
        for system in systems
    ]
    heads = ["system", *(f"{figure}, beams {b}" for figure in ("prefill", "step") for b in beams)]
    shares = [[t["format"], t["figure"], str(t["beams"]), f"{t['share']:.2f}"] for t in result["targets"]]
    built = result["llama_cpp"]
    words = f"{where(result['environment'])} llama.cpp was built by {built['compiler']}, native. "
    words += f"Medians of {result['runs']} runs after one of warm-up."
    beside = table(["ours", "figure", "beams", "time of ours / of llama.cpp's better attention"], shares)
    return f"{filled(words)}{table(heads, rows)}\n{beside}"


def seven_billion(result: Result) -> str:
    """What builds and requests took, each in a process of its own."""
    builds = [
        [
            b["format"],
            f"{b['seconds']:.0f} s",
            f"{b['bytes'] / 1e9:.1f} GB",
            f"{b['peak_bytes'] / 1e9:.1f} GB",
        ]
        for b in result["builds"]
    ]
    requests = [
        [
            *(r["format"], r["profile"], str(r["beams"]), f"{r['load_seconds']:.0f} s"),
            *(f"{r[stage] / 1e3:.1f} s" for stage in ("encoder_ms", "prefill_ms")),
            *(f"{r['step_ms']:.0f} ms", f"{r['rtf']:.2f}", f"{r['cpu_seconds']:.0f} s"),
            f"{r['peak_bytes'] / 1e9:.1f} GB",
        ]
        for r in result["requests"]
    ]
    words = f"{where(result['environment'])} {result['seconds']} s of audio, {result['new_tokens']} tokens."
    heads = [
        "weights",
        "profile",
        "beams",
        "load",
        "encoder",
        "prefill",
        "step",
        "RTF",
        "CPU time",
        "peak memory",
    ]
    return (
        f"{filled(words)}{table(['weights', 'built in', 'artifact', 'peak memory'], builds)}\n"
        f"{table(heads, requests)}"
    )


def seven_billion_in_short(result: Result) -> str:
    """What a format takes, over all of its requests."""
    rows = []
    for build in result["builds"]:
        found = [r for r in result["requests"] if r["format"] == build["format"]]
        rtfs, peaks = ([r[key] for r in found] for key in ("rtf", "peak_bytes"))
        rows.append(
            [
                *(build["format"], f"{build['bytes'] / 1e9:.1f} GB", f"{max(peaks) / 1e9:.1f} GB"),
                f"{min(rtfs):.2f} to {max(rtfs):.2f}",
            ]
        )
    environment = result["environment"]
    words = f"{where(environment)} {result['seconds']} s of audio, {result['new_tokens']} tokens."
    return filled(words) + table(
        ["weights", "artifact", "memory of a request, loaded model included", "RTF"], rows
    )


def long_form(result: Result) -> str:
    """Word error rates by segments and by windows, and what an hour takes."""
    part, found = result["accuracy"], {}
    for r in part["records"]:
        found.setdefault((r["pauses"], r["noise"], r["way"]), {})[r["profile"]] = r
    profiles = list(dict.fromkeys(r["profile"] for r in part["records"]))
    rows = [
        [
            *(pauses, noise, way, str(by[profiles[0]]["requests"])),
            *(f"{100 * by[profile]['wer']:.1f} %" for profile in profiles),
            *(f"{by[profile]['cpu_seconds']:.1f} s" for profile in profiles),
        ]
        for (pauses, noise, way), by in found.items()
    ]
    heads = ["pauses", "noise", "cut into", "requests", *(f"WER {p}" for p in profiles)]
    heads += [f"CPU time {p}" for p in profiles]
    one = part["records"][0]
    words = (
        f"{where(part['environment'])} {one['recordings']} recordings of {one['audio_seconds']:.0f} s in all."
    )
    return f"{filled(words)}{table(heads, rows)}\n{_hour(result['hour'])}"


def _hour(part: Result) -> str:
    """One file of an hour beside one of five minutes."""
    rows = [
        [
            *(r["file"], f"{r['audio_seconds']:.0f} s", f"{r['file_bytes'] / 1e6:.1f} MB"),
            *(f"{r['peak_bytes'] / 1e6:.1f} MB", f"{r['cpu_seconds']:.0f} s"),
            *(f"{r['clips'] - r['clips_missed']} of {r['clips']}", str(r["segments_beside_clips"])),
            *(f"{100 * r['wer']:.2f} %", "yes" if r["in_order"] else "no"),
        ]
        for r in part["records"]
    ]
    heads = ["file", "audio", "size", "peak memory above the loaded model", "CPU time"]
    heads += ["clips found", "segments beside them", "WER", "times in order"]
    longest = max(part["records"], key=lambda r: r["audio_seconds"])
    drift = [
        [
            f"{start['from'] / 60:.0f}",
            *(
                f"{1000 * s['median']:.0f} ms ({1000 * s['least']:.0f} to {1000 * s['most']:.0f})"
                for s in (start, end)
            ),
        ]
        for start, end in zip(longest["start_offsets"], longest["end_offsets"], strict=True)
    ]
    words = (
        f"{where(part['environment'])} Of the hour, by stretches: median (least to most) of the start of "
        "a segment less that of its clip, and of the ends. A straight line through the starts rises by "
        f"{longest['drift_ms_per_hour']:.0f} ms in the hour."
    )
    offsets = table(["minute", "start", "end"], drift)
    return f"{table(heads, rows)}\n{filled(words)}{offsets}"


def batching(result: Result) -> str:
    """Requests that share steps beside the same ones one after the other, in CPU time of a request."""
    at_once = [r for r in result["records"] if "seconds" in r]
    rows = [
        [
            *(f"{r['seconds']} s", r["profile"], str(r["beams"])),
            *(f"{r['cpu_ms'][part]:.0f}" for part in ("sequential", "batched", "prefill")),
            *(f"{r['ratios'][part]:.2f}x" for part in ("whole", "decode")),
        ]
        for r in at_once
    ]
    heads = ["audio", "profile", "beams", "one after the other", "together", "of it prefill"]
    words = f"{where(result['environment'])} CPU time of a request in ms, of audio that is encoded already."
    text = filled(words) + table([*heads, "whole", "steps alone"], rows)
    for r in result["records"]:
        if "arrival" in r:
            cpu, whole = r["cpu_ms"], r["ratios"]["whole"]
            text += "\n" + filled(
                f"{r['requests']} requests of mixed lengths that arrive at random, {r['per_second']:.1f} per "
                f"second: {cpu['sequential']:.0f} ms one after the other, {cpu['batched']:.0f} ms together, "
                f"{whole:.2f}x."
            )
    return text.rstrip("\n") + "\n"


def soak(result: Result) -> str:
    """Shared steps under load for long."""
    failures, differ = sum(result["failures"].values()), sum(result["tokens_differ"].values())
    grown, largest, bound = (
        result[f"rss_{name}_bytes"] / 1e6 for name in ("growth", "largest", "growth_bound")
    )
    return filled(
        f"{where(result['environment'])} {result['concurrency']} clients for {result['seconds']:.0f} s: "
        f"{result['answered']} answers, {failures} failures, {differ} with other tokens than alone, "
        f"scores within {result['largest_score_difference']:.0e}. The line through the resident memory "
        f"rises by {grown:.1f} MB in the time that counts, of {largest:.0f} MB; the bound is {bound:.0f} MB."
    )[:-1]


def serve(result: Result) -> str:
    """The server under load for long."""
    growth, largest = result["rss_growth_bytes"], result["rss_largest_bytes"]
    grown = ", ".join(f"{a / 1e6:.1f} of {b / 1e6:.0f} MB" for a, b in zip(growth, largest, strict=True))
    failures, differ = sum(result["failures"].values()), sum(result["texts_differ"].values())
    return filled(
        f"{where(result['environment'])} Ready {result['ready_seconds']:.1f} s after the command was "
        f"started. A request alone takes {result['overhead_ms']:.1f} ms more than in the library, "
        f"{result['overhead_cpu_ms']:.1f} ms of CPU time. {result['concurrency']} clients for "
        f"{result['seconds']:.0f} s, {result['workers']} workers: {result['answered']} answers, "
        f"{failures} failures, {differ} with another text than alone, {result['worker_deaths']:.0f} deaths "
        f"of workers. The line through the memory rises by {grown} (server, then workers); the bound is "
        f"{result['rss_growth_bound_bytes'] / 1e6:.0f} MB each."
    )[:-1]


def peers(result: Result) -> str:
    """Ours beside each peer at its best, then a table of each part."""
    heads = ["model", "audio", "threads", "beams", "ours", *peer_tables.BESIDE]
    measured = result["parts"]
    cases = [part for part in parts() if part.name in measured]
    texts = []
    for clock, words in (("cpu", "In CPU time"), ("wall", "By the clock")):
        rows = peer_tables.compared(measured, cases, peer_tables.SHOWN, clock)
        texts.append(f"{words}:\n\n{table(heads, rows)}")
    if missing := [peer_tables.title(part, short=True) for part in parts() if part not in cases]:
        texts.append("**Not measured yet:**\n\n" + "".join(f"* {name}\n" for name in missing))
    return "\n".join([*texts, *(_peers_part(measured[part.name]) for part in cases)])


def _peers_part(part: Result) -> str:
    """The table of one part."""
    rounds = "round" if part["rounds"] == 1 else "rounds"
    words = f"**{peer_tables.title(peer_tables.part_of(part))}.** {where(part['environment'])} "
    words += f"Medians of {part['rounds']} {rounds} after a warm-up; {versions(part)}."
    words = " ".join(filter(None, (words, peer_tables.peaks(part))))
    absent = "".join(f"* {line}\n" for line in peer_tables.absent(part))
    heads, rows = peer_tables.HEADS[:-1], (row[:-1] for row in peer_tables.rows(part))  # targets: on a screen
    return filled(words) + table(heads, rows) + (absent and f"\n{absent}")


def peers_in_short(result: Result) -> str:
    """The system that README recommends beside each peer at its best, on one thread."""
    measured, cases = result["parts"], list(parts(threads=[1]))
    lines = peer_tables.compared(measured, cases, [peer_tables.ASKED], "cpu")
    rows = [[case, seconds, beams, *cells] for case, seconds, _, beams, _, *cells in lines]
    found = [measured[part.name] for part in cases if part.name in measured]
    words = filled(where(found[0]["environment"])) if found else ""
    words += table(["model", "audio", "beams", *peer_tables.BESIDE], rows)
    if least := peer_tables.least(found, peer_tables.INT8, "cpu"):
        of_int8 = "With weights in int8 on ONNX Runtime, the default backend, the least of all figures is"
        words += "\n" + filled(f"{of_int8} {peer_tables.times(least)}.")[:-1]
    return words


def saved(result: Result) -> str:
    """What half of the FLOPs is worth in each of our formats, on one thread."""
    measured = [part for case in parts(threads=[1]) if (part := result["parts"].get(case.name))]
    heads = ["model", "audio", "beams", *(name.removeprefix("ours ") for name in peer_tables.SHOWN)]
    words = (
        f"{where(measured[0]['environment'])} CPU time of a request in ms, `full` and `dense-constant-50`, "
    )
    words += "and what the second saves."
    return filled(words) + table(heads, (row for part in measured for row in peer_tables.saved(part)))


def versions(part: Result) -> str:
    """Those of every peer's process."""
    found = {
        system.partition(" ")[0]: ", ".join(f"{name} {number}" for name, number in hello["versions"].items())
        for system, hello in part["peers"].items()
    }
    return "; ".join(f"{peer} with {libraries}" for peer, libraries in found.items())


def openvino_accuracy(result: Result) -> str:
    """What answers cost with a prefill in bf16: the difference from float32 on ONNX Runtime, clip by clip."""
    rows = []
    for plain, other in zip(*(iter(result["records"]),) * 2, strict=True):
        low, high = other["interval"]
        star = "" if low <= 0 <= high else " \\*"
        rows.append(
            [
                *(f"{other['set']} ({other['clips']})", other["metric"], other["profile"]),
                *(f"{each['value']:.2f}" for each in (plain, other)),
                f"{other['change']:+.2f} ({low:+.2f} to {high:+.2f}){star}",
                str(other["changed"]),
            ]
        )
    excluded = sum(row[5].endswith("\\*") for row in rows)
    words = f"{where(result['environment'])} Of {len(rows)} intervals of differences, {excluded} exclude 0."
    heads = ["set (clips)", "metric", "profile", "float32", "bf16", "difference (95 % interval)"]
    missing = (
        f"\n**Not measured yet**: {'; '.join(result['not_measured'])}." if result["not_measured"] else ""
    )
    return filled(words) + table([*heads, "other answers"], rows) + missing


def openvino_prefill(result: Result) -> str:
    """A prefill on OpenVINO beside those of ONNX Runtime, in CPU time."""
    found: dict[str, dict[str, float]] = {}
    for r in result["records"]:
        found.setdefault(r["profile"], {})[r["system"]] = r["cpu_ms"]
    rows = [
        [profile, *(f"{ms:.0f} ms ({next(iter(by.values())) / ms:.2f}x)" for ms in by.values())]
        for profile, by in found.items()
    ]
    words = f"{where(result['environment'])} CPU time of one prefill over {result['seconds']} s of audio; "
    words += f"medians of {result['rounds']} rounds after one of warm-up."
    return filled(words) + table(["profile", *next(iter(found.values()))], rows)


def request_memory_openvino(result: Result) -> str:
    """What a request adds to a loaded model."""
    rows = [
        [
            *(r["profile"], f"{r['seconds']:.0f} s"),
            *(f"{max(r['peak_bytes']) / 1e6:.0f} MB", f"{r['bound_bytes'] / 1e6:.0f} MB"),
        ]
        for r in result["records"]
    ]
    heads = ["profile", "audio", "peak above the loaded model", "bound of `max_request_bytes`"]
    return filled(where(result["environment"])) + table(heads, rows)


def word_times(result: Result) -> str:
    """How near the beginnings of words come by attention, and by an even spread."""
    near = f"within {1000 * result['within_seconds']:.0f} ms"
    kinds = {"attention": "by attention", "evenly": "spread evenly"}
    rows = [
        [
            *(r["set"], r["profile"], f"{r['right']} of {r['words']}"),
            *(
                f"{r[kind]['median_ms']:.0f} / {r[kind]['p90_ms']:.0f} ms, {100 * r[kind]['within']:.0f} %"
                for kind in kinds
            ),
            *(f"{r['confidence'][f'{of}_confident']} of {r['confidence'][of]}" for of in ("near", "far")),
        ]
        for r in result["records"]
    ]
    heads = ["clips", "profile", "right words", *(f"{k}: median / p90, {near}" for k in kinds.values())]
    heads += [f"confident of those {near}", "of the others"]
    best = ", ".join(f"{each['layer']}: {100 * each['within']:.0f} %" for each in result["layers"])
    early = -result["median_end_late_ms"]
    near_all, near_told, far_all, far_told = (
        sum(r["confidence"][key] for r in result["records"])
        for key in ("near", "near_confident", "far", "far_confident")
    )
    words = (
        f"{where(result['environment'])} Heads {' and '.join(map(str, result['heads']))} of layer "
        f"{result['layer']} were chosen on the other half of the clips; there the best heads of each layer "
        f"come {near}: {best}. What they look at ends {early:.0f} ms before the word does, as a median: it "
        f"says nothing of the end. Of all begins {near}, {near_told} of {near_all} are told with confidence; "
        f"of the others {far_told} of {far_all}."
    )
    return filled(words) + table(heads, rows)


def engine_build(result: Result) -> str:
    """Sizes of plans and the memory that their builds took, then what each build took."""
    builds = result["builds"]
    formats = list(dict.fromkeys(build["format"] for build in builds))
    found = {
        (build["model"], name, build["format"]): plan
        for build in builds
        for name, plan in build["plans"].items()
    }
    engines = dict.fromkeys((model, name) for model, name, _ in found)
    rows = [[*engine, *(_plan(found.get((*engine, form))) for form in formats)] for engine in engines]
    lines = [
        f"* {build['model']}, {build['format']}: {build['whole_build_s']:.0f} s, of them engines "
        f"{sum(plan['seconds'] for plan in build['plans'].values()):.0f} s; load average "
        f"{build['environment']['load_average'][0]:.1f} when it began\n"
        for build in builds
    ]
    machine = builds[0]["environment"]
    words = f"{machine['cpu']}, {machine['cores']} cores; {builds[0]['product']}, sm_{builds[0]['sm']}. "
    words += "The size of each plan, and the peak memory of the process that built it."
    sizes = table(["model", "engine", *formats], rows)
    return f"{filled(words)}{sizes}\nWhat the builds took:\n\n{''.join(lines)}"


def _plan(plan: Result | None) -> str:
    if plan is None:
        return "not built"
    return f"{plan['plan_bytes'] / 1e6:.1f} MB, {plan['peak_bytes'] / 1e9:.2f} GB"


def filled(words: str) -> str:
    """A paragraph."""
    return textwrap.fill(words, LINE) + "\n\n"


def encoder(result: Result) -> str:
    """Log-mel and encoder by two versions, in CPU time."""
    formats = {name: form or "float32" for name, form in result["quantize"].items()}
    words = f"{where(result['environment'])} Before: {result['commits']['before']}, {formats['before']}; "
    words += f"after: {result['commits']['after']}, {formats['after']}. Medians of {result['runs']} runs."
    rows = [
        [
            *(r["model"], str(r["threads"]), f"{r['seconds']} s"),
            *(f"{r['cpu_ms'][name]:.0f} ms" for name in ("before", "after")),
            f"{r['ratio']:.2f}x",
            f"{r['clock_ratio']:.2f}x",
        ]
        for r in result["records"]
    ]
    heads = ["encoder", "threads", "audio", "CPU time before", "after", "faster", "by the clock"]
    return filled(words) + table(heads, rows)


def where(environment: Result) -> str:
    """The machine, in a sentence."""
    versions = {**environment["libraries"], **environment.get("peers", {})}
    named = [
        f"{name} {versions[name]}"
        for name in ("onnxruntime", "openvino", "torch", "transformers")
        if name in versions
    ]
    found = f" ({', '.join(environment['instructions'])})" if "instructions" in environment else ""
    threads = f"{environment['threads']} thread{'s' if environment['threads'] != 1 else ''}"
    return (
        f"{environment['cpu']}{found}, {environment['cores']} cores, {threads}; "
        f"{', '.join(named)}; load average {environment['load_average'][0]:.1f} when it began."
    )


SECTIONS: dict[str, dict[str, Callable[[Result], str]]] = {
    README: {"peers": peers_in_short, "seven_billion": seven_billion_in_short},
    "benchmarks.md": {
        "batching": batching,
        "soak": soak,
        "quantized": quantized,
        "llama_cpp": llama_cpp,
        "peers": peers,
    },
    "choosing.md": {"peers": saved},
    "runtime.md": {"word_times": word_times},
    "serving.md": {"serve": serve},
    "engines.md": {"engine_build": engine_build},
    "performance.md": {"encoder": encoder, "encoder_int8": encoder, "seven_billion": seven_billion},
    "long_form.md": {"long_form": long_form},
    "openvino.md": {
        "openvino_accuracy": openvino_accuracy,
        "openvino_prefill": openvino_prefill,
        "request_memory_openvino": request_memory_openvino,
    },
}

if __name__ == "__main__":
    main()
