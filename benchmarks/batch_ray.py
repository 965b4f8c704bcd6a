"""A batch on Ray, an actor of which is killed: is a row lost or done twice, is a byte different?

Two actors on a cluster of this machine with four logical CPUs. Then what would wait for ever: as
many actors as CPUs, and CPUs that another job holds. Needs ``featmesh[ray]``.
"""

import argparse
import io
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from common import arguments, spread
from output import save, table

from featmesh.apps.batch import run_batch
from featmesh.apps.batch_config import BatchConfig, RayConfig
from featmesh.apps.batch_ray import Answer, RayCrew
from featmesh.errors import FeatmeshError
from featmesh.views.record import read_views

PHOTOS, ACTORS, CPUS = 60, 2, 4
LATER_S = 0.1  # after an answer: the actor then has its next photo
PART_ROWS = 20
LIMIT_S, STALL_S = 5.0, 10.0  # of the run whose CPUs another job holds


class Killing(RayCrew):
    """A crew on Ray that kills an actor in the middle of its work and counts what comes back.

    Attributes:
        heard: answers of each row.
        killed: process ids of the actors that were killed.
    """

    heard: ClassVar[Counter[int]] = Counter()
    killed: ClassVar[list[int]] = []

    def _answers(self, jobs: Sequence[Any], count: int) -> Iterator[Answer]:
        for number, answer in enumerate(super()._answers(jobs, count), 1):
            self.heard[answer.get("row", -1)] += 1
            if number == len(jobs) // 3:
                self.killed.append(answer["pid"])
                threading.Timer(LATER_S, os.kill, (answer["pid"], signal.SIGKILL)).start()
            yield answer


def listed(args: argparse.Namespace, folder: Path) -> tuple[Path, int]:
    """Write the list of photos with their boxes, two of them missing; return it and its length."""
    views = spread(read_views(args.data / "stanford_cars/dev.json"), args.limit or PHOTOS)
    lines = [{"image": str(v.image.absolute()), "box": list(v.box_or_image)} for v in views]
    for k in (len(lines) // 4, len(lines) // 2):
        lines[k] = {"image": f"missing-{k}.jpg"}
    path = folder / "photos.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path, len(lines)


def files_of(out: Path) -> dict[str, bytes]:
    """Return the bytes of every file of a batch."""
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def rows_of(out: Path) -> Counter[int]:
    """Return how often each row stands in the parts."""
    texts = [path.read_text() for path in sorted(out.glob("parts/*.jsonl"))]
    return Counter(json.loads(line)["row"] for text in texts for line in text.splitlines())


def killed(manifest: Path, count: int, place: Path, config: BatchConfig) -> dict[str, Any]:
    """Return what a run with a killed actor has lost, against one on this machine."""
    import featmesh.apps.batch_ray as module

    local = run_batch(manifest, place / "local", replace(config, engine="local"))
    plain, module.RayCrew = module.RayCrew, Killing
    try:
        onray = run_batch(manifest, place / "ray", config)
    finally:
        module.RayCrew = plain
    rows = rows_of(place / "ray")
    return {
        "photos": count,
        "actors": ACTORS,
        "cpus": CPUS,
        "actors_killed": len(Killing.killed),
        "replaced": onray.replaced,
        "lost": len(set(range(count)) - set(rows)),
        "doubled": sum(rows.values()) - len(rows),
        "answers_twice": sum(k - 1 for k in Killing.heard.values()),
        "quarantine": dict(onray.codes),
        "equal": float(files_of(place / "ray") == files_of(place / "local")),
        "seconds": onray.seconds,
        "seconds_local": local.seconds,
    }


def refused(manifest: Path, out: Path, config: BatchConfig) -> dict[str, Any]:
    """Return how a run ends that cannot work."""
    start = time.monotonic()
    try:
        run_batch(manifest, out, config, io.StringIO())
        return {"code": "none", "seconds": time.monotonic() - start}
    except FeatmeshError as error:
        told = {"code": error.code, "message": str(error)}
        return told | {"seconds": time.monotonic() - start}


def occupied(manifest: Path, out: Path, config: BatchConfig) -> dict[str, Any]:
    """Return how a run ends on a cluster whose CPUs all belong to somebody else."""
    import ray

    ray.init(address="local", num_cpus=CPUS, include_dashboard=False, log_to_driver=False)

    class Holder:
        def ready(self) -> bool:
            return True

    try:
        holder = ray.remote(num_cpus=CPUS)(Holder).remote()
        ray.get(holder.ready.remote())
        return refused(manifest, out, config)
    finally:
        ray.shutdown()


def main() -> None:
    args = arguments(__doc__)
    cluster = RayConfig(cpus=CPUS)
    config = BatchConfig(args.model, workers=ACTORS, engine="ray", part_rows=PART_ROWS, ray=cluster)
    with TemporaryDirectory() as folder:
        place = Path(folder)
        manifest, count = listed(args, place)
        results = killed(manifest, count, place, config) | {"ray": version("ray")}
        full = replace(config, ray=RayConfig(cpus=ACTORS))
        results["all_cpus"] = refused(manifest, place / "full", full)
        late = replace(config, limit_s=LIMIT_S, ray=RayConfig(stall_s=STALL_S))
        results["held_cpus"] = occupied(manifest, place / "held", late)
    shown = [
        ["photos", results["photos"]],
        ["actors, logical CPUs", f"{ACTORS}, {CPUS}"],
        ["actors killed", results["actors_killed"]],
        ["rows lost", results["lost"]],
        ["rows doubled", results["doubled"]],
        ["answers that came twice, and counted once", results["answers_twice"]],
        ["every byte as on this machine alone", "yes" if results["equal"] else "NO"],
        ["seconds, start of Ray included", results["seconds"]],
        ["seconds without Ray", results["seconds_local"]],
        ["as many actors as CPUs: refused with", results["all_cpus"]["code"]],
        ["CPUs held by another job: ended with", results["held_cpus"]["code"]],
        ["after, s", results["held_cpus"]["seconds"]],
    ]
    save("batch_ray", args, None, results, [table("A batch on Ray", ["what", "value"], shown)])


if __name__ == "__main__":
    main()
