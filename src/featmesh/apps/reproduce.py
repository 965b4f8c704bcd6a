"""Every number of README and docs again, on this machine, beside the one that is told.

The body of ``featmesh reproduce``. The numbers come from ``benchmarks/`` of a checkout, a script a
file of results; each is run as its own process, and what was run with the same script, models and
data is not run again. What cannot be run is said, with what it lacks.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from featmesh.errors import InputError
from featmesh.files import read_json, sha256_of, write_json_atomic
from featmesh.model.checkpoint import MANIFEST, bundled_models
from featmesh.paths import write_whole

STATE, RESULTS, LOGS, RUNS = "reproduce.json", "results", "logs", "runs"
PAGE, COMPARED = "reproduced.md", "compared.json"
FURNITURE = Path("/usr/share/sweethome3d/furniture")  # of Debian's sweethome3d-furniture

Need = str


@dataclass(frozen=True)
class Job:
    """A script of ``benchmarks/`` and what it needs.

    Attributes:
        minutes: about, on two cores.
        needs: among ``data``, ``run`` (a folder to work in), ``furniture`` (CADs), ``trunk``
            (weights from ImageNet), ``train`` (it learns a model: only where asked) and ``model``
            (a model of yours that is not bundled).
        words: further words of its command.
    """

    minutes: int
    needs: tuple[Need, ...] = ("data",)
    words: tuple[str, ...] = ()


JOBS: dict[str, Job] = {
    "accuracy": Job(7),
    "locate": Job(9),
    "speed": Job(2),
    "render_speed": Job(5, ()),
    "readers": Job(1),
    "confidence": Job(12),
    "calibration": Job(12),
    "segmentation": Job(6),
    "parts": Job(8),
    "options": Job(5),
    "texture": Job(15),
    "label_noise": Job(1),
    "ablations": Job(12),
    "robustness": Job(15),
    "track": Job(5),
    "serve": Job(4, ()),
    "batch": Job(8),
    "batch_ray": Job(5),
    "focal": Job(10),
    "kills": Job(10, ()),
    "ranks": Job(8, ()),
    "light_deps": Job(15, ()),
    "fuzz": Job(51, ()),
    "view_generator": Job(2, ("data", "furniture")),
    "shape_photo": Job(12, ("data", "furniture")),
    "shape_space": Job(25, ("data", "run")),
    "shape_categories": Job(40, ("data", "run"), ("--pictures", "{run}/pictures")),
    "categories": Job(60, ("data", "run", "furniture")),
    "new_category": Job(30, ("data", "run", "furniture", "train")),
    "car_cads": Job(150, ("data", "run", "furniture", "train")),
    "baselines": Job(170, ("data", "run", "trunk", "train")),
    "networks": Job(5, ("data", "model")),
}
LACKING: dict[Need, str] = {
    "data": "the data folder: --data DIR",
    "furniture": "CADs of sweethome3d-furniture: python benchmarks/obtain_cads.py",
    "trunk": "weights from ImageNet: --trunk FILE, written by benchmarks/import_trunk.py",
    "train": "to learn models, which takes long: --train",
    "model": "a model that is not bundled: the script says how it is trained",
}


@dataclass(frozen=True)
class Asked:
    """What is to be reproduced, and with what.

    Attributes:
        out: folder to write to.
        data: folder of photos and CADs.
        trunk: weights that trainings begin from.
        train: learn models too.
        only: names of jobs; all where there are none.
        limit: records of each part, for a quick try.
    """

    out: Path
    data: Path | None = None
    trunk: Path | None = None
    train: bool = False
    only: tuple[str, ...] = ()
    limit: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        name: of the job.
        status: ``done``, ``before`` (done by an earlier call), ``failed`` or ``lacking``.
        told: why it failed, or what it lacks.
        seconds: of this call.
    """

    name: str
    status: str
    told: str = ""
    seconds: float = 0.0


def scripts() -> Path:
    """Return the folder ``benchmarks`` of the checkout that featmesh runs from.

    Raises:
        InputError: E_IO where it does not run from one.
    """
    root = Path(__file__).resolve().parents[3]
    if (root / "benchmarks" / "report.py").is_file() and (root / "pyproject.toml").is_file():
        return root / "benchmarks"
    raise InputError(
        "E_IO",
        "reproduce: expected to run from a checkout, whose folder benchmarks/ holds the scripts, "
        "got an installed package; try: git clone, then pip install -e .",
    )


def chosen(asked: Asked) -> dict[str, Job]:
    """Return the jobs that are asked for.

    Raises:
        InputError: E_CONFIG for a name that no job has.
    """
    unknown = sorted(set(asked.only) - set(JOBS))
    if unknown:
        raise InputError(
            "E_CONFIG",
            f"reproduce: expected names among {', '.join(JOBS)}, got {', '.join(unknown)}; "
            "try: one of these",
        )
    return {name: job for name, job in JOBS.items() if not asked.only or name in asked.only}


def reproduce(asked: Asked, tell: Callable[[str], None] = lambda line: None) -> list[Outcome]:
    """Run what can be run and write results, logs, the comparison and the page.

    Args:
        asked: what, and with what.
        tell: is told each line of progress.

    Raises:
        InputError: E_IO outside a checkout, E_CONFIG for an unknown name.
    """
    asked = replace(
        asked,
        out=asked.out.absolute(),
        data=asked.data and asked.data.absolute(),
        trunk=asked.trunk and asked.trunk.absolute(),
    )
    folder, jobs = scripts(), chosen(asked)
    asked.out.mkdir(parents=True, exist_ok=True)
    known = {name: lacking(job, asked) for name, job in jobs.items()}
    ready = [name for name in jobs if not known[name] and (folder / f"{name}.py").is_file()]
    left = sum(jobs[name].minutes for name in ready)
    tell(f"{len(ready)} of {len(jobs)} scripts can run, about {left} minutes on two cores")
    outcomes = []
    for name, job in jobs.items():
        if name in ready:
            outcomes.append(_run(folder, name, job, asked))
            left -= job.minutes
            tell(f"{_line(outcomes[-1])}; about {left} minutes left")
        else:
            outcomes.append(Outcome(name, "lacking", "; ".join(known[name]) or "no such script"))
            tell(_line(outcomes[-1]))
    _compare(folder, asked, outcomes)
    return outcomes


def lacking(job: Job, asked: Asked) -> list[str]:
    """Return what a job needs and does not have, in words."""
    there = {
        "data": asked.data is not None and asked.data.is_dir(),
        "furniture": FURNITURE.is_dir(),
        "trunk": asked.trunk is not None and asked.trunk.is_file(),
        "train": asked.train,
        "run": True,
    }
    return [LACKING[need] for need in job.needs if not there.get(need, False)]


def command(folder: Path, name: str, job: Job, asked: Asked) -> list[str]:
    """Return the command line of a job."""
    run = asked.out / RUNS / name
    words = [sys.executable, str(folder / f"{name}.py"), "--out", str(asked.out / RESULTS)]
    given = {"data": asked.data, "run": run, "trunk": asked.trunk}
    for need, path in given.items():
        words += [f"--{need}", str(path)] if need in job.needs else []
    few = asked.limit is not None and "data" in job.needs
    words += ["--limit", str(asked.limit)] if few else []
    return words + [word.format(run=run) for word in job.words]


def _run(folder: Path, name: str, job: Job, asked: Asked) -> Outcome:
    """Run a job, unless it was run before with the same script, models and data."""
    words = command(folder, name, job, asked)
    state_file, result = asked.out / STATE, asked.out / RESULTS / f"{name}.json"
    state = read_json(state_file) if state_file.is_file() else {}
    key = _key(folder / f"{name}.py", words)
    if state.get(name) == key and result.is_file():
        return Outcome(name, "before")
    for sub in (RESULTS, LOGS, f"{RUNS}/{name}"):
        (asked.out / sub).mkdir(parents=True, exist_ok=True)
    log, begun = asked.out / LOGS / f"{name}.log", time.monotonic()
    environment = os.environ | {"PYTHONPATH": str(folder.parent / "src")}
    with open(log, "w", encoding="utf-8") as file:
        code = subprocess.run(
            words,
            check=False,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=folder.parent,
            env=environment,
        ).returncode
    spent = time.monotonic() - begun
    if code or not result.is_file():
        return Outcome(name, "failed", f"exit {code}: {_last_line(log)} ({log})", spent)
    write_json_atomic(state_file, {**state, name: key})
    return Outcome(name, "done", "", spent)


def _key(script: Path, words: Sequence[str]) -> str:
    """Return what a result depends on: script, command and bundled models."""
    models = {name: sha256_of(path / MANIFEST) for name, path in bundled_models().items()}
    told = json.dumps([sha256_of(script), list(words[2:]), models], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1].strip()[:200] if lines else "it said nothing"


def _line(outcome: Outcome) -> str:
    spent = f" in {outcome.seconds / 60:.1f} min" if outcome.status == "done" else ""
    return f"{outcome.name:<18}{outcome.status}{spent}{': ' if outcome.told else ''}{outcome.told}"


def _compare(folder: Path, asked: Asked, outcomes: Sequence[Outcome]) -> None:
    """Write the page of what was found, beside what is told, and of what could not be."""
    words = [sys.executable, str(folder / "report.py"), "--results", str(asked.out / RESULTS)]
    words += ["--against", str(folder / RESULTS), "--out", str(asked.out / PAGE)]
    words += ["--only", *(outcome.name for outcome in outcomes)]
    subprocess.run(words, check=True, cwd=folder.parent)
    missed = [o for o in outcomes if o.status in ("failed", "lacking")]
    lines = [f"- `{o.name}` {o.status}: {o.told}\n" for o in missed] or ["None.\n"]
    page = asked.out / PAGE
    write_whole(page, page.read_text("utf-8") + "\n## Not reproduced\n\n" + "".join(lines))


def compared(out: Path) -> dict[str, int]:
    """Return how many numbers are the same, close, differ or were not found again."""
    return Counter(row["verdict"] for row in read_json(out / COMPARED)["rows"])
