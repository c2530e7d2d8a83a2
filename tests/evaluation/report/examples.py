"""Result files made by hand, as `compare`, `select-layer` and `tune` write them."""

from __future__ import annotations

from typing import Any

LEVELS = (10, 20, 30, 40, 50)
LAYERS, ROWS = 32, 750
WER = {
    "random merge, constant": (2.43, 3.39, 8.21, 27.53, 169.96),
    "random evict, constant": (5.70, 21.42, 61.04, 184.59, 342.88),
    "A-ToMe, constant": (2.20, 3.26, 13.91, 71.56, 273.49),
    "FastV": (12.54, 54.40, 110.42, 179.58, 258.78),
    "FastAdaSP, decay": (2.19, 2.23, 2.51, 4.37, 15.24),
    "FastAdaSP, constant": (2.22, 2.21, 2.30, 3.57, 16.01),
}
BLEU = {
    "random merge, constant": (40.63, 39.35, 37.01, 32.39, 24.3),
    "random evict, constant": (38.39, 28.22, 14.98, 6.29, None),
    "A-ToMe, constant": (41.24, 39.87, 36.52, 25.35, 8.64),
    "FastV": (41.12, 40.31, 38.45, 34.74, 27.14),
    "FastAdaSP, decay": (41.41, 41.05, 40.51, 39.02, 35.79),
    "FastAdaSP, constant": (41.47, 41.30, 40.83, 39.81, 37.04),
}
ENVIRONMENT = {
    "time_utc": "2026-01-02T03:04:05+00:00",
    "cpu": "A CPU",
    "cores": 2,
    "threads": 2,
    "load_average": [0.5, 0.4, 0.3],
    "platform": "Linux",
    "python": "3.11.7",
    "libraries": {"numpy": "2.4.6"},
    "workers": 1,
}


def asr_comparison() -> dict[str, Any]:
    """WER of six methods, as a share of 1."""
    return _comparison("asr", "wer", "share", "lower", 0.01, 2.21, WER)


def translation_comparison() -> dict[str, Any]:
    """BLEU of the same methods, one cell of which was not measured."""
    return _comparison("translate", "bleu", "points", "higher", 1.0, 41.46, BLEU)


def selection() -> dict[str, Any]:
    """Layers with accuracy at two levels, where the lowest entropy is the best layer at one of them alone."""
    entropies = {2: 2.20, 9: 2.17, 12: 2.29, 15: 2.11, 3: 2.06}
    accuracy = {"30": (0.549, 0.538, 0.541, 0.546, 0.544), "50": (0.51, 0.515, 0.497, 0.519, 0.5214)}
    layers = [
        {
            "layer": layer,
            "reachable": 0.9 - layer / 40,
            "ratio": "13/25",
            "entropy": {"transfer_entropy": te, "at_last": 1.0, "at_layer": 1.0 + te, "per_channel": te},
            "rank": sorted(entropies.values()).index(te) + 1,
            "spread": {"low": 1, "high": 5, "best": 0.2},
            "infeasible": None,
            "accuracy": {
                "accuracy": {level: _eval_figure(values[i]) for level, values in accuracy.items()},
            },
        }
        for i, (layer, te) in enumerate(entropies.items())
    ]
    layers.append(
        {
            **dict.fromkeys(("ratio", "entropy", "rank", "spread")),
            **{"layer": 16, "reachable": 0.28, "infeasible": "at most 28.00 %", "accuracy": {"accuracy": {}}},
        }
    )
    return {
        "kind": "select-layer",
        "format_version": 1,
        "checkpoint": {"folder": "CHECKPOINT", "family": "qwen"},
        "protocol": {"flops_reduction": "3/10", "clips": 100, "resamples": 1000, "seed": 0},
        "environment": ENVIRONMENT,
        "selected": 3,
        "profile": 'method = "weighted_merge"\nstart_layer = 3\nratio = 0.52\n',
        "warnings": [],
        "accuracy": {
            "metric": "accuracy",
            "metrics": {"accuracy": _metric("accuracy")},
            "levels": list(accuracy),
            "full": {"accuracy": _eval_figure(0.548)},
            "best": {"30": 2, "50": 3},
            "rank_correlation": {"30": {"rho": -0.1, "count": 5}, "50": {"rho": 0.9, "count": 5}},
            "failures": [],
        },
        "layers": sorted(layers, key=lambda layer: layer["layer"]),
    }


def tuning() -> dict[str, Any]:
    """Candidates for a budget of 1 point of accuracy, one of them chosen and confirmed."""
    tried = {"constant-0-20": (0.2, 0.546), "constant-0-40": (0.4, 0.532), "decay-2-30": (0.31, 0.541)}
    return {
        "kind": "tune",
        "format_version": 1,
        "checkpoint": {"folder": "CHECKPOINT"},
        "task": "classify",
        "metric": _metric("accuracy"),
        "max_loss": 1.0,
        "objective": "flops",
        "seed": 0,
        "protocol": {"audio_seconds": 30.0, "intervals": "bootstrap over clips"},
        "clips": {"source": "clips.jsonl", "search": ["a"], "held_out": ["b"]},
        "environment": ENVIRONMENT,
        "full": _scores("full", 0.0, 0.548),
        "candidates": [
            {"name": name, "feasible": value >= 0.538, "round": 1, **_scores(name, flops, value)}
            for name, (flops, value) in tried.items()
        ],
        "choice": "decay-2-30",
        "profile": 'method = "weighted_merge"\nschedule = "decay"\nstart_layer = 2\nratio = "1/20"\n',
        "reason": None,
        "held_out": {
            "measured": 40,
            "profiles": [_scores("full", 0.0, 0.55), _scores("decay-2-30", 0.31, 0.543)],
            "loss": 0.7,
            "within_budget": True,
        },
        "failures": [{"id": "silent.wav", "line": 3, "reason": "the audio is empty"}],
    }


def _scores(profile: str, flops: float, value: float) -> dict[str, Any]:
    metrics = {"accuracy": _eval_figure(value)}
    return {"profile": profile, "kept_ratio": 1 - flops, "flops_reduction": flops, "metrics": metrics}


def _metric(name: str) -> dict[str, Any]:
    return {"name": name, "title": name.title(), "unit": "share", "lower_is_better": False, "made_by": "x"}


def _eval_figure(value: float) -> dict[str, Any]:
    own = {"value": value, "interval": [value - 0.02, value + 0.02], "reason": None}
    return {**own, "delta": None, "delta_interval": None, "p_value": None}


def _comparison(
    task: str,
    metric: str,
    unit: str,
    better: str,
    scale: float,
    full: float,
    figures: dict[str, tuple[float | None, ...]],
) -> dict[str, Any]:
    return {
        "format_version": 1,
        "kind": "compare",
        "environment": ENVIRONMENT,
        "checkpoint": {"folder": "CHECKPOINT", "family": "qwen", "dims": {"num_layers": LAYERS}},
        "protocol": {
            "clips": {"source": "clips.jsonl", "count": 2620},
            "positions": "kept",
            "seeds": 3,
            "method": "bootstrap over clips, 95 % percentile intervals",
        },
        "task": task,
        "metrics": [{"name": metric, "title": metric.upper(), "unit": unit, "better": better}],
        "clips": 2618,
        "failures": [
            {
                "id": "broken.flac",
                "line": 7,
                "profiles": ["full", "fastv-30"],
                "reason": "audio cannot be decoded",
            }
        ],
        "levels": list(LEVELS),
        "full": {
            "figures": {metric: _figure(full, scale)},
            "achieved_flops_percent": 0.0,
            "kept_ratio": 1.0,
            "layer_rows": [float(ROWS)] * LAYERS,
            "prefill_ms": 790.0,
            "decode_ms": 1150.0,
        },
        "rows": [_row(label, values, metric, scale) for label, values in figures.items()],
    }


def _row(label: str, values: tuple[float | None, ...], metric: str, scale: float) -> dict[str, Any]:
    name, _, schedule = label.partition(", ")
    cells = [_cell(label, level, value, metric, scale) for level, value in zip(LEVELS, values, strict=True)]
    return {"label": label, "method": name, "schedule": schedule, "start_layer": 2, "cells": cells}


def _cell(label: str, level: int, value: float | None, metric: str, scale: float) -> dict[str, Any]:
    achieved = level - 1.9 if label.startswith("A-ToMe") else level - 0.2
    return {
        "level": level,
        "profiles": [f"{label}-{level}"],
        "seeds": [],
        "figures": {metric: _figure(value, scale)},
        "achieved_flops_percent": achieved,
        "kept_ratio": 1 - level / 120,
        "layer_rows": _layer_rows(label, level),
        "prefill_ms": 790.0 - 6.1 * level,
        "decode_ms": 1150.0 - (5 if "FastAdaSP" in label else 4) * level,
        "unmet": "merges pairs only" if label.startswith("A-ToMe") and level > 40 else None,
    }


def _layer_rows(label: str, level: int) -> list[float]:
    if "decay" in label:
        return [
            round(ROWS * (1 - level / 62 * min(1, (max(0, i - 1) / 10) ** 0.5)), 1) for i in range(LAYERS)
        ]
    if "constant" in label:
        return [round(ROWS * (1 - level / 1400) ** max(0, i - 1), 1) for i in range(LAYERS)]
    return [float(ROWS) if i < 3 else round(ROWS * (1 - level / 92), 1) for i in range(LAYERS)]


def _figure(value: float | None, scale: float) -> dict[str, Any] | None:
    if value is None:
        return None
    width = 0.04 * value + 0.1
    return {
        "value": scale * value,
        "low": scale * (value - width),
        "high": scale * (value + width),
        "delta": None,
        "seeds": [scale * value],
        "reason": None,
    }
