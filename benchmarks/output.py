"""What the benchmark scripts write: JSON with the machine it was measured on, tables, meshes."""

import argparse
import json
import math
import os
import platform
import sys
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import featmesh
from featmesh.geometry.mesh import Mesh
from featmesh.paths import write_whole

Table = dict[str, Any]


def machine() -> dict[str, Any]:
    """Return what the numbers were measured on."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), cpu)
    packages = ("torch", "numpy", "numba", "pillow")
    versions = {"python": platform.python_version(), "featmesh": featmesh.__version__}
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": versions | {name: version(name) for name in packages},
        "date": date.today().isoformat(),
    }


def save(
    name: str,
    args: argparse.Namespace,
    model: Any,
    results: dict[str, Any],
    tables: Sequence[Table],
) -> None:
    """Write ``OUT/<name>.json`` and print the tables."""
    command = f"python benchmarks/{name}.py" + (" --data DATA" if args.data else "")
    command += f" --limit {args.limit}" if args.limit is not None else ""
    command += f" --seed {args.seed}" if args.seed else ""
    told = None
    if model is not None:
        told = {"name": model.category, "hash": model.hash, "threshold": model.threshold}
    whole = {"benchmark": name, "command": command, "limit": args.limit, "seed": args.seed}
    whole |= {"machine": machine(), "model": told, "results": results, "tables": list(tables)}
    args.out.mkdir(parents=True, exist_ok=True)
    write_whole(args.out / f"{name}.json", json.dumps(finite(whole), indent=1) + "\n")
    sys.stdout.write("\n".join(markdown(table) for table in tables) + "\n")


def finite(value: Any) -> Any:
    """Return JSON values: null for what is not finite."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """Return a table as the JSON files hold it."""
    return {"title": title, "columns": list(columns), "rows": [list(row) for row in rows]}


def markdown(table: Table) -> str:
    """Return a table as Markdown."""
    lines = [table["columns"], ["---"] * len(table["columns"]), *table["rows"]]
    body = "\n".join("| " + " | ".join(cell(value) for value in line) + " |" for line in lines)
    return f"**{table['title']}**\n\n{body}\n"


def cell(value: Any) -> str:
    """Return a value as shown: three digits."""
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def write_off(path: Path, mesh: Mesh, digits: str = ".9g") -> None:
    """Write a mesh as an OFF file; ``digits`` is the format of a coordinate."""
    lines = ["OFF", f"{len(mesh.vertices)} {len(mesh.faces)} 0"]
    lines += [" ".join(f"{x:{digits}}" for x in row) for row in mesh.vertices.tolist()]
    lines += [f"3 {a} {b} {c}" for a, b, c in mesh.faces.tolist()]
    path.write_text("\n".join(lines) + "\n")
