"""Peers take turns: rounds alternate, and one that cannot run is named; their tables have the ratios."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import page
import pytest
from peers import install, tables, turns
from peers import systems as named
from peers.cases import BEAMS, MODELS, NEW_TOKENS, WARM_UP_TOKENS, Part, parts, prompt, token_ids
from peers.systems import BASE, OURS, PEERS, System, systems
from peers.worker import record

STUB = """
import json, sys
_, _, mode, peer, form, model, threads, folder, extra = sys.argv
if mode == "write":
    with open(folder + "/written.txt", "a") as written:
        sys.exit(print(peer, form, file=written))
if peer == "llama.cpp":
    sys.exit("no such instruction")
print(json.dumps({"versions": {peer: "1"}, "load_cpu_ms": 1.0}), flush=True)
for i, line in enumerate(sys.stdin):
    with open(folder + "/order.txt", "a") as order:
        print(form, *json.loads(line), file=order)
    names = [f"{part}_{clock}_ms" for part in ("prefill", "step", "total") for clock in ("cpu", "wall")]
    times = dict.fromkeys(names, 10.0 + i)
    print(json.dumps({**times, "text": "", "peak_bytes": 1000 + i}), flush=True)
"""
SHORT, LONG = Part("decoder", 120, 1), Part("decoder", 240, 2)


@pytest.fixture
def stub(tmp_path, monkeypatch):
    script = tmp_path / "stub.py"
    script.write_text(STUB)
    monkeypatch.setattr(turns, "SCRIPT", script)
    return turns.Place(Path(sys.executable), tmp_path)


def order(folder: Path) -> list[str]:
    """Format, seconds, beams and tokens of each request, in their order."""
    return (folder / "order.txt").read_text().splitlines()


def test_systems_alternate_and_the_first_tokens_of_each_are_not_counted(stub, tmp_path):
    chosen = systems("decoder", ["transformers"])
    turn = turns.Turns(SHORT, dict.fromkeys(chosen, stub), [1, 5], 2)
    first_round, records = turn
    forms = "fp32", "bf16"
    loaded = ((1, WARM_UP_TOKENS), (5, WARM_UP_TOKENS), (1, NEW_TOKENS))
    first = [f"{form} 120 {width}  {tokens}" for form in forms for width, tokens in loaded]
    single, beams = ([f"{form} 120 {width}  {NEW_TOKENS}" for form in forms] for width in (1, 5))
    assert order(tmp_path) == [*first, *beams, *single, *beams]
    assert [(r["beams"], r["system"], r["total_cpu_ms"]) for r in records] == [
        (1, "transformers fp32", 13.0),  # the third and the fifth answer of its process
        (1, "transformers bf16", 13.0),
        (5, "transformers fp32", 14.0),
        (5, "transformers bf16", 14.0),
    ]
    assert [r["total_cpu_ms"] for r in first_round] == [12.0, 12.0, 13.0, 13.0]
    assert records[0]["peak_bytes"] == 1004
    assert turn.hellos["transformers bf16"]["versions"] == {"transformers": "1"}


def test_what_a_part_leaves_out_is_not_asked_and_is_named(stub, tmp_path, monkeypatch):
    monkeypatch.setitem(named.LEFT_OUT, (LONG, 5), ("transformers f*",))
    places = dict.fromkeys(systems("decoder", ["transformers"]), stub)
    *_, records = turns.Turns(LONG, places, [1, 5], 1)
    assert [(r["beams"], r["system"].split()[1]) for r in records] == [(1, "fp32"), (1, "bf16"), (5, "bf16")]
    others = {system.name: "no" for system in systems("decoder") if system not in places}
    lines = list(tables.absent({**asdict(LONG), "records": records, "not_here": others}))
    assert lines[-1] == "Not run with beams 5: transformers fp32"
    assert len(lines) == len(others) + 1


def test_where_memory_is_short_each_system_has_its_rounds_while_it_alone_is_loaded(
    stub, tmp_path, monkeypatch
):
    monkeypatch.setattr(named, "LEFT_OUT", {})
    chosen = systems("seven_billion", ["transformers"])
    list(turns.Turns(Part("seven_billion", 30, 1), dict.fromkeys(chosen, stub), [1, 5], 2))
    assert [line.split()[0] for line in order(tmp_path)] == ["fp32"] * 6 + ["bf16"] * 6


def test_a_peer_that_ends_is_named_with_its_last_words_and_the_others_go_on(stub):
    places = dict.fromkeys(systems("decoder", ["transformers", "llama.cpp"]), stub)
    turn = turns.Turns(SHORT, places, [1], 1)
    (records,) = turn
    assert [r["system"] for r in records] == ["transformers fp32", "transformers bf16"]
    assert turn.absent["llama.cpp Q8_0"] == "ended with 1: no such instruction"
    part = {**asdict(SHORT), "records": [], "not_here": turn.absent}
    assert "llama.cpp Q8_0 is not here: ended with 1: no such instruction" in tables.absent(part)


def test_what_a_peer_has_written_is_used_again_but_for_ours(stub, tmp_path):
    ours, genai = System(OURS, "onnxruntime fp32"), System("onnxruntime-genai", "fp32")
    for system, again in ((ours, False), (genai, False), (ours, False), (genai, False), (genai, True)):
        turns.write(system, stub, "decoder", again)
    written = (tmp_path / "written.txt").read_text().splitlines()
    assert written == [ours.name, genai.name, ours.name, genai.name]


def test_what_cannot_be_installed_is_an_error_that_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(install.shutil, "which", lambda tool: None if tool == "cmake" else tool)
    monkeypatch.setattr(install, "python", lambda folder, environment: Path(sys.executable))
    with pytest.raises(install.NotHereError, match="there is no cmake"):
        install.llama_cpp(tmp_path, tmp_path / "program.c")


def test_ratios_are_against_transformers_bf16_and_only_asked_rows_have_a_target():
    ours = f"{tables.ASKED}, full"
    part = measured(SHORT, row(BASE, 3000.0, 3300.0), row(ours, 1500.0, 1100.0))
    base, found = tables.rows(part)
    assert base[-2:] == ["1.00x (1.00x)", ""]
    assert found[-2:] == ["2.00x (3.00x)", "2.0x"]
    assert found[:3] == ["1", ours, "750"]
    assert float(found[3]) == pytest.approx(750 / (NEW_TOKENS - 1), abs=0.05)
    assert tables.reached(part) == "Of 1 rows with a target 1 reach it in CPU time, 1 by the clock."
    slower = measured(SHORT, row(BASE, 3000.0, 3300.0), row(ours, 1600.0, 1600.0))
    assert "target 0 reach it in CPU time, 1 by" in tables.reached(slower)


def row(system, cpu, wall, beams=1):
    """A record as turns make it."""
    found = record([cpu / 2, wall / 2], [cpu, wall], NEW_TOKENS)
    return {"beams": beams, "system": system, "peak_bytes": 2 * 10**9, **found}


def measured(part, *records):
    """A part of the result file."""
    where = {"cpu": "C", "cores": 2, "threads": part.threads, "load_average": [0.5], "libraries": {}}
    case = {**asdict(part), "rounds": 1, "environment": where, "peers": {}, "not_here": {}}
    return {**case, "records": list(records)}


def test_ours_is_beside_each_peer_in_the_format_that_is_fastest_by_that_clock():
    full, half = (
        row(f"{tables.ASKED}, {profile}", cpu, cpu)
        for profile, cpu in (("full", 100.0), ("dense-constant-50", 50.0))
    )
    peers = [row("llama.cpp BF16", 300.0, 100.0), row("llama.cpp Q4_0, flash", 200.0, 200.0)]
    part = measured(SHORT, row(BASE, 400.0, 400.0), full, half, *peers)
    for clock, best in (("cpu", "2.00x / 4.00x (Q4_0, flash)"), ("wall", "1.00x / 2.00x (BF16)")):
        single, beams = tables.compared({SHORT.name: part}, [SHORT], [tables.ASKED], clock)
        assert single[1:5] == ["120 s", "1", "1", "openvino bf16, int8 steps"]
        assert single[5:] == ["4.00x / 8.00x", tables.NOT_RUN, tables.NOT_RUN, best]
        assert beams[5:] == [tables.NOT_RUN] * 4
    assert "transformers bf16 2.0; ours openvino bf16, int8 steps 2.0; llama.cpp BF16 2.0" in tables.peaks(
        part
    )


def test_the_least_that_ours_is_ahead_is_of_the_best_format_of_any_peer():
    ours = [
        row(f"{tables.INT8}, {p}", cpu, 1.0) for p, cpu in zip(tables.PROFILES, (100.0, 50.0), strict=True)
    ]
    peers = row(BASE, 400.0, 1.0), row("llama.cpp Q8_0", 150.0, 1.0), row("llama.cpp Q4_0", 110.0, 1.0)
    part = measured(SHORT, *ours, *peers)
    assert tables.least([part], tables.INT8, "cpu") == pytest.approx([1.1, 2.2])
    assert tables.least([part], tables.ASKED, "cpu") == []
    assert "the least of all figures is 1.10x / 2.20x." in page.peers_in_short({"parts": {SHORT.name: part}})


def test_what_half_of_the_flops_saves_is_told_by_format():
    ours = [
        row(f"{tables.ASKED}, {p}", cpu, 9.0) for p, cpu in zip(tables.PROFILES, (80.0, 60.0), strict=True)
    ]
    single, beams = tables.saved(measured(SHORT, row(BASE, 150.0, 150.0), *ours))
    assert single == ["decoder, 8 layers", "120 s", "1", "80, 60: 25 %", tables.NOT_RUN, tables.NOT_RUN]
    assert beams[3:] == [tables.NOT_RUN] * 3
    part = measured(SHORT, *ours)
    assert "80, 60: 25 %" in page.saved({"parts": {SHORT.name: part}})
    shown = page.peers({"parts": {SHORT.name: part}})
    assert "asked" not in shown
    assert "target" not in shown


def test_the_pages_name_what_is_not_measured():
    demo = Part("demo", 30, 1)
    ours = [row(f"{tables.ASKED}, {profile}", 100.0, 100.0) for profile in tables.PROFILES]
    result = {"parts": {demo.name: measured(demo, row(BASE, 150.0, 150.0), *ours)}}
    whole, short = page.peers(result), page.peers_in_short(result)
    assert all(f"* {tables.title(part, short=True)}\n" in whole for part in parts() if part != demo)
    assert f"* {tables.title(demo, short=True)}\n" not in whole
    assert "* Not run with beams 5: all systems" in whole
    assert "| demo, audio to text | 30 s | 1 | 1.50x / 1.50x | – | – | – |" in short
    assert short.count("| decoder, 8 layers | 240 s |") == len(BEAMS)
    assert page.peers_in_short({"parts": {}}).count(tables.NOT_RUN) == 4 * 2 * 4


def test_ids_are_as_many_as_rows_and_each_system_has_a_name_of_its_own():
    for model in ("decoder", "seven_billion"):
        before, rows, after = prompt({"hidden_size": 8}, 30)
        assert len(token_ids(30)) == len(before) + len(rows) + len(after)
        names = [title for system in systems(model, list(PEERS)) for _, title in system.titles()]
        assert len(set(names)) == len(names)
    assert systems("demo", ["llama.cpp"]) == []
    assert System("transformers", "bf16").name == BASE
    assert list(parts(["decoder"], [240, 999])) == [Part("decoder", 240, 1), LONG]
    assert len({part.name for part in parts()}) == 2 * sum(len(model.rounds) for model in MODELS.values())
