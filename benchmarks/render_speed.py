"""The renderer at 80x112x128, 4,800 faces, one thread: one step, and the whole pose stage.

The fused numba step against autograd on the torch renderer and against the physical limit; our pose
stage against NeMo's schedule on both renderers, on synthetic cases with a known truth.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from common import arguments
from output import Table, save, table
from rivals import METHODS, Autograd
from synthetic import CHANNELS, DIFFICULTIES, make_case
from synthetic_car import car_mesh

from featmesh.geometry.rotations import geodesic_angle
from featmesh.inference.energy import Comparison
from featmesh.inference.energy_numba import FusedEnergy

CASES = 12  # of each difficulty
WORKING_SET = 8e6  # bytes, as large as what one step reads


def milliseconds(actions: dict[str, Callable[[], Any]], rounds: int = 15) -> dict[str, Any]:
    """Return median and best milliseconds of actions that take turns, so that load hits all."""
    spent: dict[str, list[float]] = {name: [] for name in actions}
    for k in range(rounds + 1):
        for name, action in actions.items():
            for _ in range(5):
                begin = time.perf_counter()
                action()
                if k:  # the first round warms up
                    spent[name].append((time.perf_counter() - begin) * 1e3)
    return {name: {"median": float(np.median(s)), "best": min(s)} for name, s in spent.items()}


def one_step(seed: int) -> dict[str, Any]:
    """Return the cost of energy and gradient of one pose, and what bounds it."""
    case = make_case("middle", 0, seed)
    R, t = case.pose.R.numpy(), case.pose.t.numpy()
    compared = Comparison(case.cells, case.model.mesh(), case.model.texture)
    fused, by_torch = FusedEnergy(compared), Autograd(compared, "torch")
    source = np.ones(int(WORKING_SET / 8), np.float32)
    target = np.zeros_like(source)
    actions: dict[str, Callable[[], Any]] = {
        "numba": lambda: fused.evaluate(R[None], t[None]),
        "torch": lambda: by_torch.step(R, t),
        "copy": lambda: np.copyto(target, source),
    }
    spent = milliseconds(actions)
    step, theirs = fused.evaluate(R[None], t[None]), by_torch.step(R, t)[1]
    rate = WORKING_SET / spent["copy"]["best"] * 1e3  # bytes a second, read and written
    limit = int(step.covered[0]) * 4 * CHANNELS * 4 / rate * 1e3
    apart = np.linalg.norm(step.gradient[0, :6] - theirs) / np.linalg.norm(theirs)
    return spent | {
        "faces": len(car_mesh().faces),
        "covered": int(step.covered[0]),
        "gradient_difference": float(apart),
        "copy_gb_s": rate / 1e9,
        "limit_ms": limit,
        "torch_over_numba": spent["torch"]["best"] / spent["numba"]["best"],
        "numba_over_limit": spent["numba"]["best"] / limit,
    }


def whole_stage(name: str, count: int, seed: int) -> dict[str, Any]:
    """Return time and accuracy of each method on the cases of one difficulty."""
    cases = [make_case(name, k, seed) for k in range(count)]
    told = {
        "cosine": np.mean([c.cosine for c in cases]),
        "hidden": np.mean([c.hidden for c in cases]),
    }
    results: dict[str, Any] = {"cases": count, **told}
    spent: dict[str, list[float]] = {method: [] for method in METHODS}
    errors: dict[str, list[float]] = {method: [] for method in METHODS}
    for case in cases:
        for method, solve in METHODS.items():
            begin = time.perf_counter()
            pose = solve(case)
            spent[method].append(time.perf_counter() - begin)
            errors[method].append(float(geodesic_angle(pose.R, case.pose.R).rad2deg()))
    for method in METHODS:
        e = np.array(errors[method])
        results[method] = {
            "ms": float(np.median(spent[method])) * 1e3,
            "best_ms": min(spent[method]) * 1e3,
            "solved": float((e < 5).mean()),
            "median_deg": float(np.median(e)),
            "median_solved_deg": float(np.median(e[e < 5])) if (e < 5).any() else None,
        }
    return results


def summary(stage: dict[str, Any]) -> dict[str, Any]:
    """Return the smallest ratios over the difficulties, and accuracy over all cases."""
    parts = list(stage.values())
    rivals = [name for name in METHODS if name != "featmesh"]
    ratios = {r: [part[r]["ms"] / part["featmesh"]["ms"] for part in parts] for r in rivals}
    solved = {m: float(np.mean([part[m]["solved"] for part in parts])) for m in METHODS}
    return {
        "least": {rival: min(found) for rival, found in ratios.items()},
        "median": {rival: float(np.median(found)) for rival, found in ratios.items()},
        "solved": solved,
        "solved_more": solved["featmesh"] - max(solved[rival] for rival in rivals),
    }


def tables(results: dict[str, Any]) -> list[Table]:
    """Return what is shown."""
    step = results["step"]
    rows = [[who, step[who]["median"], step[who]["best"]] for who in ("numba", "torch")]
    rows += [["physical limit", None, step["limit_ms"]]]
    title = f"One step (energy, gradient; numba also curvature), {step['covered']} covered cells"
    stage_rows = [
        [name, part["cosine"], part["hidden"], method, *part[method].values()]
        for name, part in results["stage"].items()
        for method in METHODS
    ]
    head = ("difficulty", "cosine", "hidden", "method", "median ms", "best ms", "solved (< 5°)")
    return [
        table(title, ("step", "median ms", "best ms"), rows),
        table(
            "Scan and refinement on synthetic cases, one thread",
            (*head, "median °", "median ° of the solved"),
            stage_rows,
        ),
    ]


def main() -> None:
    args = arguments(__doc__, data=False)
    torch.set_num_threads(1)
    results: dict[str, Any] = {"step": one_step(args.seed)}
    METHODS["featmesh"](make_case("easy", 0, args.seed))  # tables and compiled kernels
    METHODS["NeMo, fused kernel"](make_case("easy", 0, args.seed))
    count = args.limit or CASES
    results["stage"] = {name: whole_stage(name, count, args.seed) for name in DIFFICULTIES}
    results["total"] = summary(results["stage"])
    save("render_speed", args, None, results, tables(results))


if __name__ == "__main__":
    main()
