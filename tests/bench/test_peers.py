"""Peers take turns: rounds alternate, and one that cannot run is named; their tables have the ratios."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from peers import install, tables, turns
from peers.cases import MODELS, NEW_TOKENS, prompt, requests, token_ids
from peers.systems import BASE, PEERS, System, systems
from peers.worker import record

STUB = """
import json, sys
_, _, _, peer, form, model, threads, folder, extra = sys.argv
if peer == "llama.cpp":
    sys.exit("no such instruction")
print(json.dumps({"versions": {peer: "1"}, "load_cpu_ms": 1.0}), flush=True)
for i, line in enumerate(sys.stdin):
    with open(folder + "/order.txt", "a") as order:
        print(form, *json.loads(line), file=order)
    names = [f"{part}_{clock}_ms" for part in ("prefill", "step", "total") for clock in ("cpu", "wall")]
    times = dict.fromkeys(names, 10.0 + i)
    print(json.dumps({**times, "text": ""}), flush=True)
"""


@pytest.fixture
def stub(tmp_path, monkeypatch):
    script = tmp_path / "stub.py"
    script.write_text(STUB)
    monkeypatch.setattr(turns, "SCRIPT", script)
    return turns.Place(Path(sys.executable), tmp_path)


def test_systems_alternate_and_the_first_request_of_each_is_not_counted(stub, tmp_path):
    chosen = systems("decoder", ["transformers"])
    turn = turns.Turns("decoder", 1, dict.fromkeys(chosen, stub), [(120, 1), (240, 1)], 2)
    records = turn.records()
    order = [line.split()[:2] for line in (tmp_path / "order.txt").read_text().splitlines()]
    assert order[:4] == [["fp32", "120"], ["fp32", "120"], ["bf16", "120"], ["bf16", "120"]]
    assert order[4:6] == [["fp32", "240"], ["bf16", "240"]]
    assert order[6:] == [["fp32", "120"], ["bf16", "120"], ["fp32", "240"], ["bf16", "240"]]
    assert [(r["seconds"], r["system"], r["total_cpu_ms"]) for r in records] == [
        (120, "transformers fp32", 12.0),  # the second and the fourth answer of its process
        (120, "transformers bf16", 12.0),
        (240, "transformers fp32", 13.0),
        (240, "transformers bf16", 13.0),
    ]
    assert turn.hellos["transformers bf16"]["versions"] == {"transformers": "1"}


def test_a_model_without_room_is_loaded_by_one_process_at_a_time(stub, tmp_path):
    chosen = systems("seven_billion", ["transformers"])
    turns.Turns("seven_billion", 1, dict.fromkeys(chosen, stub), [(30, 1), (30, 5)], 1).records()
    forms = [line.split()[0] for line in (tmp_path / "order.txt").read_text().splitlines()]
    assert forms == ["fp32"] * 3 + ["bf16"] * 3


def test_a_peer_that_ends_is_named_with_its_last_words_and_the_others_go_on(stub):
    places = dict.fromkeys(systems("decoder", ["transformers", "llama.cpp"]), stub)
    turn = turns.Turns("decoder", 1, places, [(120, 1)], 1)
    assert [r["system"] for r in turn.records()] == ["transformers fp32", "transformers bf16"]
    assert turn.absent["llama.cpp Q8_0"] == "ended with 1: no such instruction"
    part = {"records": [], "not_here": turn.absent}
    assert "llama.cpp Q8_0 is not here: ended with 1: no such instruction" in tables.absent(part)


def test_what_cannot_be_installed_is_an_error_that_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(install.shutil, "which", lambda tool: None if tool == "cmake" else tool)
    monkeypatch.setattr(install, "python", lambda folder, environment: Path(sys.executable))
    with pytest.raises(install.NotHereError, match="there is no cmake"):
        install.llama_cpp(tmp_path, tmp_path / "program.c")


def test_ratios_are_against_transformers_bf16_and_only_asked_rows_have_a_target():
    def row(system, cpu, wall):
        found = record([cpu / 2, wall / 2], [cpu, wall])
        return {"seconds": 120, "beams": 1, "system": system, **found}

    ours = f"{tables.ASKED}, full"
    part = {
        "model": "decoder",
        "threads": 1,
        "records": [row(BASE, 3000.0, 3300.0), row(ours, 1500.0, 1100.0)],
    }
    base, found = tables.rows(part)
    assert base[-2:] == ["1.00x (1.00x)", ""]
    assert found[-2:] == ["2.00x (3.00x)", "2.0x"]
    assert found[:4] == ["120 s", "1", ours, "750"]
    assert float(found[4]) == pytest.approx(750 / (NEW_TOKENS - 1), abs=0.05)


def test_ids_are_as_many_as_rows_and_each_system_has_a_name_of_its_own():
    for model in ("decoder", "seven_billion"):
        before, rows, after = prompt({"hidden_size": 8}, 30)
        assert len(token_ids(30)) == len(before) + len(rows) + len(after)
        names = [title for system in systems(model, list(PEERS)) for _, title in system.titles()]
        assert len(set(names)) == len(names)
    assert systems("demo", ["llama.cpp"]) == []
    assert System("transformers", "bf16").name == BASE
    assert list(requests("decoder", [240, 999], [1, 5])) == [(240, 1), (240, 5)]
    assert json.dumps([model.title for model in MODELS.values()])
