"""The tests with other versions of the light dependencies: the lowest allowed, or the newest.

Makes a virtual environment with those versions in front of the packages of this interpreter, so
that torch (and what the tests need) is not installed again, and runs pytest in it.
``--torchvision`` puts a torchvision there that is broken, or hides one that is installed.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from pathlib import Path
from typing import Any

from output import save, table

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch",)  # taken from this interpreter
TESTS = ("tests/geometry", "tests/model", "tests/render", "tests/photo", "tests/inference")
BROKEN = {
    "absent": "raise ModuleNotFoundError(\"No module named 'torchvision'\", name='torchvision')\n",
    "broken": "raise RuntimeError('operator torchvision::nms does not exist')\n",
}


def bounds() -> dict[str, str]:
    """Return the lowest version of each light dependency that pyproject.toml allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pairs = [re.fullmatch(r"([\w-]+)>=([\w.]+)", row) for row in project["dependencies"]]
    return {pair[1]: pair[2] for pair in pairs if pair and pair[1] not in HEAVY}


def environment(folder: Path, chosen: str, torchvision: str | None) -> Path:
    """Return the interpreter of a new environment with the lowest or the newest versions."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pins = {name: f"=={low}" if chosen == "lowest" else "" for name, low in bounds().items()}
    asked = [f"{name}{pin}" for name, pin in pins.items()]
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # with what they need in turn (llvmlite, shtab, ...); torch comes from the interpreter
    subprocess.run([*pip, "--upgrade", *asked], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    own = [path for path in sys.path if path.endswith("site-packages")]
    (site / "zz_torch.pth").write_text("\n".join(own) + "\n")
    if torchvision is not None:
        (site / "torchvision.py").write_text(BROKEN[torchvision])
    return python


def versions(python: Path) -> dict[str, str]:
    """Return the versions that an environment uses."""
    names = [*bounds(), *HEAVY, "llvmlite"]
    code = f"from importlib.metadata import version as v; print({{n: v(n) for n in {names!r}}})"
    ran = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(ran.stdout.replace("'", '"'))
    return found


def tested(python: Path, tests: list[str], workers: str) -> dict[str, Any]:
    """Return how many tests passed and which failed."""
    words = [str(python), "-m", "pytest", "-q", "-rf", "--tb=line", "-p", "no:cacheprovider"]
    surroundings = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    clock = time.monotonic()
    words += ["-n", workers, *tests]
    told: dict[str, Any] = {"capture_output": True, "text": True}
    ran = subprocess.run(words, check=False, cwd=ROOT, env=surroundings, **told)
    sys.stderr.write(ran.stdout[-6000:])
    last = ran.stdout.strip().splitlines()[-1]
    counts = {kind: int(n) for n, kind in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", ran.stdout, re.MULTILINE)
    return {"exit": ran.returncode, "counts": counts, "failed": failed} | {
        "seconds": time.monotonic() - clock
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", choices=("lowest", "newest"), default="lowest", dest="chosen")
    parser.add_argument("--torchvision", choices=tuple(BROKEN), help="what torchvision is like")
    parser.add_argument("--tests", nargs="+", default=list(TESTS))
    parser.add_argument("--workers", default="1", help="of pytest-xdist")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.set_defaults(data=None, limit=None, seed=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        python = environment(Path(folder) / "v", args.chosen, args.torchvision)
        used = versions(python)
        found = tested(python, args.tests, args.workers)
    path = args.out / "light_deps.json"
    runs = json.loads(path.read_text("utf-8"))["results"] if path.is_file() else {}
    name = args.chosen + (f", torchvision {args.torchvision}" if args.torchvision else "")
    runs[name] = {"tests": args.tests, "versions": used, **found}
    rows = []
    for run, one in runs.items():
        versions_used = " ".join(f"{k} {v}" for k, v in one["versions"].items())
        counts = [one["counts"].get(kind, 0) for kind in ("passed", "failed", "skipped")]
        rows.append([run, versions_used, " ".join(one["tests"]), *counts])
    columns = ("set", "versions", "tests", "passed", "failed", "skipped")
    save("light_deps", args, None, runs, [table("light dependencies", columns, rows)])


if __name__ == "__main__":
    main()
