"""How fast views are rendered: whole photos of 224x336, written to disk, with two processes."""

import resource
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from common import arguments
from output import save, table

from featmesh.views.cad_sources import read_training_cads
from featmesh.views.generate import read_backgrounds, render_views
from featmesh.views.presets import SHOWN_IN_CALTECH, preset
from featmesh.views.scene import build_scene

CATEGORIES = ("car", "chair", "bus")
SIZE = (224, 336)  # height and width, pixels
COUNT = 300  # views of each category
JOBS = 2


def cpu_seconds() -> float:
    """Return the CPU time of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measured(category: str, data: Path, furniture: Path, count: int, seed: int) -> dict[str, Any]:
    """Return what rendering views of a category costs."""
    begin = time.perf_counter()
    cads = read_training_cads(category, data / "pascal3d_cad", furniture)
    read = time.perf_counter()
    for cad in cads:
        build_scene(cad)
    built = time.perf_counter()
    left_out = SHOWN_IN_CALTECH.get(category, ())
    pictures = read_backgrounds(data / "backgrounds", True, left_out)
    config = replace(preset(category), width=(SIZE[1], SIZE[1]), aspects=(SIZE[1] / SIZE[0],))
    with TemporaryDirectory() as folder:
        used, start = cpu_seconds(), time.perf_counter()
        render_views(cads, pictures, folder, count, seed, config, JOBS)
        wall, cpu = time.perf_counter() - start, cpu_seconds() - used
        size = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
    return {
        "cads": len(cads),
        "read_s": read - begin,
        "scenes_s": built - read,
        "views": count,
        "seconds": wall,
        "views_per_s": count / wall,
        "cpu_s_per_view": cpu / count,
        "views_per_s_of_idle_cores": JOBS * count / cpu,
        "kilobytes_per_view": size / count / 1e3,
    }


def main() -> None:
    args = arguments(__doc__, furniture=True)
    count = args.limit or COUNT
    found = {c: measured(c, args.data, args.furniture, count, args.seed) for c in CATEGORIES}
    columns = {
        "cads": "CADs",
        "read_s": "reading s",
        "scenes_s": "preparing s",
        "views_per_s": "views/s",
        "cpu_s_per_view": "CPU s/view",
        "views_per_s_of_idle_cores": "views/s by CPU time",
        "kilobytes_per_view": "kB/view",
    }
    rows = [[name, *(row[key] for key in columns)] for name, row in found.items()]
    least = float(np.min([row["views_per_s"] for row in found.values()]))
    title = f"render-views at {SIZE[0]}x{SIZE[1]}, {JOBS} processes, {count} views each"
    results = {"categories": found, "size": SIZE, "jobs": JOBS, "least_views_per_s": least}
    save(
        "view_generator", args, None, results, [table(title, ("category", *columns.values()), rows)]
    )


if __name__ == "__main__":
    main()
