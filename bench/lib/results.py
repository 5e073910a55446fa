# SPDX-License-Identifier: GPL-3.0-or-later
"""What every benchmark shares: one line a figure, ours beside the peer's.

A figure is judged by its ratio to a peer that ran beside it in the same run
(machines are shared and noisy), or against a fixed goal where there is no
peer. `ok` says whether the goal was met; a benchmark never fails by a figure.
"""

import json
import os
import pathlib
import statistics

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILE = pathlib.Path(os.environ.get("QVD_BENCH_RESULTS",
                                   ROOT / "build/bench/results.jsonl"))


def add(area, name, unit, ours, peer, peer_name, goal, ratio=None):
    """Appends one figure.

    With a peer, `ratio` is ours / peer unless given (pair it run by run where
    that is possible) and `goal` is a text such as "<= 1.1" on the ratio.
    Without one (peer None), the goal is on `ours`.
    """
    if peer is not None and ratio is None:
        ratio = ours / peer
    value = ours if peer is None else ratio
    line = {
        "area": area, "name": name, "unit": unit, "ours": _round(ours),
        "peer": _round(peer), "peer_name": peer_name, "ratio": _round(ratio),
        "goal": goal, "ok": meets(value, goal),
    }
    FILE.parent.mkdir(parents=True, exist_ok=True)
    with FILE.open("a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")
    return line


def meets(value, goal):
    """True if the value meets a goal such as "<= 1.1" or ">= 0.9"."""
    operator, limit = goal.split()[:2]
    if operator == "<=":
        return value <= float(limit)
    if operator == ">=":
        return value >= float(limit)
    raise ValueError(f"a goal is '<= N' or '>= N', not {goal!r}")


def median_ratio(ours, peers):
    """The median of the ratios pair by pair: what drifts, drifts in both."""
    return statistics.median(a / b for a, b in zip(ours, peers, strict=True))


def _round(value):
    return None if value is None else float(f"{value:.4g}")
