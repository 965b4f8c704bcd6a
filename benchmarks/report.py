"""Write docs/benchmarks.md from benchmarks/results: no number that is not in a file there.

What was measured on the bundled car goes into its card too.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from output import cell, markdown

# what, file, path to the number in its results, must reach
A, L, S, V = "accuracy", "locate", "speed", "render_speed"
P, C = "shape_photo", "shape_space"
G, N, B = "segmentation", "confidence", "refusal/box = whole image"
W, K, O = "view_generator", "categories", "car_cads"
REAL = "dev/CADs and 51 meshes of real cars"
BATCH = "batch"
Y, H, D = "label_noise", "between/label - both hands", "baselines"
Z, MORE, NEMO = "ablations", "more_acc_10/difference", "NeMo's search: rigid, 144 poses, Adam 300"
LOWEST = ("light_deps", "lowest, torchvision broken/failed/#")
READERS = ("image", "mesh", "views", "checkpoint", "http")
R, M = "robustness", "models/featmesh"
AGAINST = "against_one_process/24"
CLAIMS: tuple[tuple[str, str, str, str], ...] = (
    ("Stanford dev, no camera, box = whole image: acc@30°", A, "dev/acc_30", ">= .985"),
    ("the same: acc@10°", A, "dev/acc_10", ">= .88"),
    ("the same: median, degrees", A, "dev/median_deg", "<= 5.0"),
    ("dev pasted at 10-60 % of the width, no box: acc@30°", L, "640 px/all/acc_30", ">= .90"),
    ("the same: boxes found with IoU >= .5", L, "640 px/all/box_iou_half", ">= .90"),
    ("street scenes, K and box given: cars at 30°", A, "street/all/featmesh/under_30", ">= 22"),
    ("the same: cars at 10°", A, "street/all/featmesh/under_10", ">= 15"),
    ("the same: cars in all", A, "street/all/featmesh/count", ""),
    ("constant front or back guess: cars at 30°", A, "street/all/constant/under_30", ""),
    ("the same guess: cars at 10°", A, "street/all/constant/under_10", ""),
    ("dev under occluders L1: acc@30°", A, "occluded/L1/acc_30", ""),
    ("L2: acc@30°", A, "occluded/L2/acc_30", ">= .85"),
    ("L3: acc@30°", A, "occluded/L3/acc_30", ""),
    ("box of the projected template, dev: mean IoU", A, "dev/box_iou_mean", ">= .80"),
    ("distance on KITTI, K and length 4.3 m: median error", A, "depth/median", "<= .10"),
    ("dev cars refused, box given", N, f"{B}/cars_no_object", "<= .02"),
    ("dev cars refused, no box", N, "refusal/no box/cars_no_object", "<= .02"),
    ("negatives refused, box given", N, f"{B}/negatives_no_object", ""),
    ("negatives refused, no box", N, "refusal/no box/negatives_no_object", ""),
    ("`estimate` with a box, 2 cores, s", S, "estimate/slowest/with box", "<= .5"),
    ("`estimate` without a box, 2 cores, s", S, "estimate/slowest/without", "<= 1.2"),
    ("pose stage at 28x42 cells, 1,474 vertices, one thread, s", S, "pose/median", "<= .12"),
    ("one step at 80x112x128: torch, ms", V, "step/torch/best", "<= 10"),
    ("torch step over numba step", V, "step/torch_over_numba", ">= 4"),
    ("numba step over the physical limit", V, "step/numba_over_limit", "<= 4"),
    ("NeMo's schedule over our pose stage: torch", V, "total/least/NeMo, torch renderer", ">= 20"),
    ("the same, numba renderer", V, "total/least/NeMo, numba renderer", ">= 3"),
    ("the same, fused numba kernel", V, "total/least/NeMo, fused kernel", ">= 3"),
    ("cases solved, ours less the best of NeMo's", V, "total/solved_more", ">= 0"),
    ("`featmesh --help`, s", S, "start/help", "< .5"),
    ("`import featmesh`, s", S, "start/import", "< .5"),
    ("apollo cars not seen, best fit over z = 0: field", C, "ways/field/ratio", "<= .42"),
    ("the same: graph network", C, "ways/gcn/ratio", ""),
    ("the same: PCA", C, "ways/pca/ratio", ""),
    (
        "one rendered picture, pose known: Chamfer over the mean's",
        P,
        "rendered/ratio/known/outside",
        "<= .68",
    ),
    ("pose unknown, K given: the same", P, "rendered/ratio/free/outside", "<= .78"),
    (
        "pose unknown, each mesh's diagonal 1",
        P,
        "rendered/ratio/free/outside, diagonals 1",
        "<= .78",
    ),
    ("masks of davis_cars, shape fitted: mean IoU", P, "davis/shape", ">= .85"),
    ("the same, less z = 0", P, "davis/gain", ">= .04"),
    ("part unions of car_parts 321-400, less z = 0", P, "car_parts/gain", ">= .04"),
    ("Stanford dev acc@10°, shape on less off", P, "poses/gain", ">= 0"),
    ("Stanford dev acc@10°, shape on", P, "poses/on/acc_10", ""),
    ("shape stage at 28x42 cells, s", P, "poses/seconds", "<= .5"),
    ("gradient to z: mean cosine to a supersampled energy's", P, "slope/mean", "> .97"),
    ("street cars' length: error of the mean less the fitted, m", P, "sizes/less/length", "> 0"),
    ("the same: width", P, "sizes/less/width", "> 0"),
    ("the same: height", P, "sizes/less/height", "> 0"),
    ("18 parts, car_parts 321-400, learned from 1-320: mIoU", "parts", "ours/L0/miou", ">= .50"),
    ("the same: part pixels with the right part", "parts", "ours/L0/accuracy", ">= .70"),
    ("the same mIoU, less that of a head on pixels", "parts", "more/L0/miou", ""),
    ("the same behind occluders L1", "parts", "more/L1/miou", ""),
    ("L2", "parts", "more/L2/miou", "> 0"),
    ("L3", "parts", "more/L3/miou", "> 0"),
    ("visible mask of davis_cars, no box: mean IoU", G, "davis_cars/all/iou_mean", ">= .85"),
    ("the same, car-roundabout alone", G, "davis_cars/car-roundabout/iou_mean", ""),
    ("the same, drift-chicane alone", G, "davis_cars/drift-chicane/iou_mean", ""),
    ("occluder maps on dev: IoU at L1", G, "occluders/L1/iou", ""),
    ("L2", G, "occluders/L2/iou", ">= .6"),
    ("L3", G, "occluders/L3/iou", ""),
    ("dev, all stages, behind occluders L1: acc@30°", G, "occluders/L1/acc_30", ">= .96"),
    ("L2", G, "occluders/L2/acc_30", ">= .90"),
    ("L3", G, "occluders/L3/acc_30", ">= .72"),
    ("extra time of all masks, 2 cores, s", G, "occluders/seconds", "<= .15"),
    ("the same, 854x480 pixels", G, "davis_cars/all/seconds", "<= .15"),
    ("cars against negatives, box given: AUROC of confidence", N, f"{B}/auroc", ">= .98"),
    ("the same, no box", N, "refusal/no box/auroc", ">= .98"),
    (
        "negatives accepted, 2 % of cars refused, box given",
        N,
        f"{B}/accepted_at_2_percent",
        "<= .05",
    ),
    ("the same, no box", N, "refusal/no box/accepted_at_2_percent", "<= .05"),
    ("as bundled, box given: cars not `ok`", N, f"{B}/cars_not_ok", "<= .02"),
    ("negatives `ok`", N, f"{B}/negatives_ok", "<= .05"),
    ("confidence, dev L0 to L3: ECE", N, "reliability/L0 to L3/ece", "<= .05"),
    ("the same: AUROC of right against wrong", N, "reliability/L0 to L3/auroc_right", ">= .85"),
    ("90 % pose interval: coverage, at least", N, "reliability/L0 to L3/coverage", ">= .85"),
    ("the same, at most", N, "reliability/L0 to L3/coverage", "<= .95"),
    (
        "rank correlation of its width and the error",
        N,
        "reliability/L0 to L3/rank_correlation",
        ">= .4",
    ),
    ("dev errors above 90°", A, "dev/over_90", "<= .01"),
    ("views of cars rendered a second, 224x336, 2 cores", W, "categories/car/views_per_s", ">= 10"),
    ("views of chairs", W, "categories/chair/views_per_s", ">= 10"),
    ("car from CADs alone, Stanford dev: acc@30°", O, "dev/CADs alone/acc_30", ">= .95"),
    ("the same: acc@10°", O, "dev/CADs alone/acc_10", ">= .72"),
    ("from CADs and 51 meshes of real cars: acc@30°", O, f"{REAL}/acc_30", ">= .95"),
    ("the same: acc@10°", O, f"{REAL}/acc_10", ">= .72"),
    ("as one of the twelve, on their trunk: acc@30°", K, "dev/acc_30", ""),
    ("the same: acc@10°", K, "dev/acc_10", ""),
    ("car from CADs and 100 photos: acc@30°", O, "dev/CADs and 100 photos/acc_30", ""),
    ("the same: acc@10°", O, "dev/CADs and 100 photos/acc_10", ""),
    ("a new car from 10 CADs, 2 cores: seconds", "new_category", "wall_s", "<= 1800"),
    ("its acc@30°, Stanford dev", "new_category", "dev/acc_30", ">= .90"),
    ("its acc@10°", "new_category", "dev/acc_10", ">= .60"),
    ("twelve categories, renders of unseen CADs: mean acc@30°", K, "mean/clean/acc_30", ">= .90"),
    ("the same behind occluders L2", K, "mean/L2/acc_30", ">= .75"),
    ("clean, official errors of symmetric ones too", K, "mean/clean/official/acc_30", ""),
    ("L2, the same", K, "mean/L2/official/acc_30", ""),
    ("Caltech airplanes, half mirrored, no box: side right", K, "sides/airplanes/share", ">= .95"),
    ("a constant guess", K, "sides/airplanes/constant", ""),
    (
        "Caltech Motorbikes, half mirrored, no box: side right",
        K,
        "sides/Motorbikes/share",
        ">= .95",
    ),
    ("a constant guess", K, "sides/Motorbikes/constant", ""),
    ("category of a photo, no box: mean per class", K, "classification/no box/mean", ">= .90"),
    ("the same, box = whole image", K, "classification/box = whole image/mean", ""),
    ("labels of 30 dev cars against two hands: median, degrees", Y, f"{H}/median_deg", ""),
    ("the same: below 10°, what acc@10° can reach", Y, f"{H}/under_10", ""),
    ("the two hands against each other: median", Y, "between/first - second/median_deg", ""),
    ("featmesh against the hands: median", Y, "between/featmesh - both hands/median_deg", ""),
    ("bundled car, dev: acc@30°", A, "dev/acc_30", ">= .99"),
    ("acc@10°: .92, or the labels' .967", A, "dev/acc_10", ">= .92"),
    ("median, degrees (the labels' own is 4.5)", A, "dev/median_deg", "<= 4.2"),
    ("street cars, of 25: at 30°", A, "street/all/featmesh/under_30", ">= 24"),
    ("at 10°", A, "street/all/featmesh/under_10", ">= 18"),
    ("classes of the angles, dev L0: acc@30°", D, "levels/L0/bins/acc_30", ">= .93"),
    ("6D rotation, dev L0: acc@30°", D, "levels/L0/6d/acc_30", ">= .93"),
    ("ours less classes, L0: acc@30°", D, "differences/L0/bins/acc_30/difference", ">= 0"),
    ("the same: acc@10°", D, "differences/L0/bins/acc_10/difference", "> 0"),
    ("L2: acc@30°", D, "differences/L2/bins/acc_30/difference", "> 0"),
    ("lower end of its 95 % interval", D, "differences/L2/bins/acc_30/photos/0", "> 0"),
    ("L3: acc@30°", D, "differences/L3/bins/acc_30/difference", "> 0"),
    ("lower end of its 95 % interval", D, "differences/L3/bins/acc_30/photos/0", "> 0"),
    ("NeMo's rigid cuboid, 144 + 300, dev L0: acc@30°", D, "levels/L0/cuboid/acc_30", ""),
    ("the same: acc@10°", D, "levels/L0/cuboid/acc_10", ""),
    ("ours less the cuboid, L0: acc@30°", D, "differences/L0/cuboid/acc_30/difference", ">= 0"),
    ("L2: acc@30°", D, "differences/L2/cuboid/acc_30/difference", "> 0"),
    ("lower end of its 95 % interval", D, "differences/L2/cuboid/acc_30/photos/0", "> 0"),
    ("L3: acc@30°", D, "differences/L3/cuboid/acc_30/difference", "> 0"),
    ("lower end of its 95 % interval", D, "differences/L3/cuboid/acc_30/photos/0", ""),
    ("rigid mean mesh less ours: acc@10°, L0", Z, "L0/rigid mean mesh/" + MORE, ""),
    ("NeMo's search on our features less ours: L0", Z, f"L0/{NEMO}/{MORE}", ""),
    ("L2", Z, f"L2/{NEMO}/{MORE}", ""),
    ("19 corruptions, severity 3, of clean: acc@30°", R, f"{M}/mean/relative_acc_30", ">= .93"),
    (
        "corrupted, ours less classes: acc@30°",
        R,
        "against/bins/corruption acc_30/difference",
        "> 0",
    ),
    ("severity-3 suite, 100 photos, 2 cores, s", R, f"{M}/seconds", "<= 3600"),
    ("`--suite robustness --quick`, s", R, "quick_s", "<= 180"),
    ("batch: two processes over one, a thread each", BATCH, "speed/over_one_thread", ">= 1.8"),
    ("the same over one of two threads", BATCH, "speed/over_two_threads", ">= 1.1"),
    ("photos a second", BATCH, "speed/per_second/two processes, one thread", ">= 4"),
    ("300 photos, workers and runs killed: rows lost", BATCH, "kills/lost", "<= 0"),
    ("rows doubled", BATCH, "kills/doubled", "<= 0"),
    ("byte-equal to the undisturbed run", BATCH, "kills/equal", ">= 1"),
    (
        "of 30 broken photos, in quarantine with their code",
        BATCH,
        "kills/broken_with_their_code",
        ">= 30",
    ),
    ("Ray, two actors, one killed: rows lost", "batch_ray", "lost", "<= 0"),
    ("rows doubled", "batch_ray", "doubled", "<= 0"),
    ("training killed 20 times, in mid-save and on a full disk too", "kills", "kills/#", ">= 20"),
    ("ends on the same weights", "kills", "runs_with_same_weights/0", ">= 1"),
    *(
        (f"fuzzing {name}, 10 minutes: failures", "fuzz", f"readers/{name}/failures/#", "<= 0")
        for name in READERS
    ),
    ("`serve` under attack: kinds of clients", "serve", "attacks/#", ""),
    ("not answered as promised", "serve", "not_as_promised", "<= 0"),
    ("tests that fail with the lowest dependencies, torchvision broken", *LOWEST, "<= 0"),
    (
        "two ranks against one process, 24 steps: trunk",
        "ranks",
        f"{AGAINST}/two processes/trunk/largest",
        "<= 1e-6",
    ),
    ("the same: texture", "ranks", f"{AGAINST}/two processes/texture/largest", "<= 1e-6"),
    ("a second thread instead: trunk", "ranks", f"{AGAINST}/two threads/trunk/largest", ""),
    ("the public npz sample read: IoU of box and CAD", "readers", "pascal3d_sample/box_iou", ""),
    ("peak memory on a 12-Mpx photo, in Python, GB", S, "memory/Python", "< 1.5"),
    ("the same, `featmesh estimate`", S, "memory/verb", "< 1.5"),
)

TESTS = {
    ">=": lambda value, limit: value >= limit,
    "<=": lambda value, limit: value <= limit,
    "<": lambda value, limit: value < limit,
    ">": lambda value, limit: value > limit,
}
HEAD = """# Measured

Written by `python benchmarks/report.py` from the files in `benchmarks/results`; `DATA` is the
folder with the photos. Every record counts: a photo without a pose, a refused one too, is an error
of 180 degrees. Shares are between 0 and 1. `featmesh reproduce --data DATA` measures all of it
again, beside what is told here, and says what it could not.
"""


def look_up(results: Any, path: str) -> Any:
    """Return a number of a results file, None where it is missing; # counts what is there."""
    for key in path.split("/"):
        if key == "#":
            results = None if results is None else len(results)
        elif isinstance(results, list):
            results = results[int(key)]
        else:
            results = results.get(key) if isinstance(results, dict) else None
    return results


def verdict(value: Any, must: str) -> str:
    """Return whether a number reaches what it must."""
    if value is None:
        return "not measured"
    if not must:
        return ""
    relation, limit = must.split()
    return "yes" if TESTS[relation](value, float(limit)) else "**no**"


def machines(runs: dict[str, Any]) -> dict[str, str]:
    """Return each file's machine in words."""
    words = {}
    for name, run in runs.items():
        m = run["machine"]
        versions = ", ".join(f"{k} {v}" for k, v in m["versions"].items())
        words[name] = (
            f"{m['cpu']}, {m['cores']} cores, {m['threads']} threads, {m['system']}; {versions}"
        )
    return words


def claims(runs: dict[str, Any], names: dict[str, str]) -> str:
    """Return the table of what must be reached."""
    lines = ["| what | must reach | measured | reached | machine | command |", "|---" * 6 + "|"]
    for what, file, path, must in CLAIMS:
        run = runs.get(file)
        value = look_up(run["results"], path) if run else None
        reached = verdict(value, must)
        if run and run["limit"] is not None and value is not None:
            reached = f"{reached} (quick try)".strip()
        machine, command = (names[file], f"`{run['command']}`") if run else ("-", "-")
        shown = must.replace(">=", "≥").replace("<=", "≤") or "-"
        lines.append(f"| {what} | {shown} | {cell(value)} | {reached} | {machine} | {command} |")
    return "\n".join(lines)


def compare(told: Any, found: Any) -> str:
    """Return whether a number was found again: the same three digits, .01 or 5 % off, or not."""
    if told is None or found is None:
        return "not found" if found is None else "new"
    if cell(told) == cell(found):
        return "same"
    near = abs(told - found) <= max(0.01 if abs(told) <= 1.5 else 0.0, 0.05 * abs(told))
    return "close" if near else "differs"


def write_comparison(args: argparse.Namespace) -> None:
    """Write the numbers of the first table as they are told and as they were found again."""

    def results(folder: Path, name: str) -> Any:
        path = folder / f"{name}.json"
        return json.loads(path.read_text("utf-8"))["results"] if path.is_file() else None

    rows = []
    for what, file, path, must in CLAIMS:
        told, found = (look_up(results(f, file), path) for f in (args.against, args.results))
        asked = not args.only or file in args.only
        if asked and (told is not None or found is not None):
            row = {"what": what, "file": file, "told": told, "found": found}
            rows.append(row | {"verdict": compare(told, found), "reached": verdict(found, must)})
    columns = ("what", "script", "told", "found again", "verdict", "reached")
    lines = [
        [r["what"], r["file"], r["told"], r["found"], r["verdict"], r["reached"]] for r in rows
    ]
    page = markdown(
        {"title": "Numbers told, and found again here", "columns": columns, "rows": lines}
    )
    note = "Times are of this machine and its load; close: within .01 or 5 %.\n"
    args.out.write_text(f"# Reproduced\n\n{note}\n{page}", encoding="utf-8")
    args.out.with_name("compared.json").write_text(json.dumps({"rows": rows}, indent=1) + "\n")


def state_in_card(run: dict[str, Any]) -> None:
    """Write what accuracy.py measured into the card of the bundled model that it measured."""
    from featmesh.model.checkpoint import bundled_models, read_model, update_model

    folder, found = bundled_models().get(run["model"]["name"]), run["results"]
    if (
        folder is None
        or run["limit"] is not None
        or read_model(folder).hash != run["model"]["hash"]
    ):
        return
    keys = ("count", "acc_30", "acc_10", "median_deg")
    told: dict[str, Any] = {"Stanford dev": {k: found["dev"][k] for k in keys}}
    for level, row in found["occluded"].items():
        told[f"the same behind occluders {level}"] = {k: row[k] for k in keys}
    street = found["street"]["all"]["featmesh"]
    told["street cars"] = "{under_30} of {count} within 30, {under_10} within 10 deg".format(
        **street
    )
    update_model(folder, {"metrics": told})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    parser.add_argument("--against", type=Path, help="results that are told: compare with them")
    parser.add_argument("--only", nargs="*", default=[], help="files to compare; default: all")
    args = parser.parse_args()
    if args.against:
        return write_comparison(args)
    files = sorted(args.results.glob("*.json"))
    runs = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}
    words = machines(runs)
    letters = {text: f"M{k + 1}" for k, text in enumerate(dict.fromkeys(words.values()))}
    parts = [HEAD, claims(runs, {name: letters[text] for name, text in words.items()})]
    parts.append("\n".join(["", *(f"- **{letter}**: {text}" for text, letter in letters.items())]))
    for name, run in runs.items():
        model = run["model"]
        told = f", model `{model['name']}` {model['hash'][:12]}" if model else ""
        load = f", load {run['machine']['load']} at the end" if run["machine"]["load"] else ""
        machine = letters[words[name]]
        parts.append(
            f"## {name}\n\n`{run['command']}`, {run['machine']['date']}, {machine}{told}{load}.\n"
        )
        parts += [markdown(table) for table in run["tables"]]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("\n\n".join(part.strip() for part in parts) + "\n", encoding="utf-8")
    if "accuracy" in runs:
        state_in_card(runs["accuracy"])


if __name__ == "__main__":
    main()
