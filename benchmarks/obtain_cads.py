"""Installs the public CADs from which the bundled models are rebuilt, through the package manager.

Prints what it would do; with --yes it does it. Debian and its relatives only.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from featmesh.errors import FeatmeshError
from featmesh.views.cad_sources import (
    FLIGHTGEAR_DATA,
    FURNITURE,
    SOURCES,
    attributions,
    read_training_cads,
)

# package: size on disk, what it holds, licence
FREE = {
    "sweethome3d-furniture": ("120 MB", "textured furniture and vehicles", "CC-BY 3.0, CC0"),
}
GPL = {
    "flightgear-data-ai": ("287 MB", "aircraft with liveries (AC3D)", "GPL-2+"),
    "flightgear-data-models": ("144 MB", "ships, trains, a bus (AC3D)", "GPL-2+"),
}


def commands(packages: Sequence[str], root: bool) -> list[list[str]]:
    """Return what installs the packages."""
    before = [] if root else ["sudo"]
    options = ["-y", "--no-install-recommends"]
    return [[*before, "apt-get", "install", *options, *packages]]


def report(pascal3d: Path | None, gpl: Path | None = None) -> str:
    """Return, for each category, how many CADs there are now, and from where."""
    lines = []
    for category in SOURCES:
        try:
            cads = read_training_cads(category, pascal3d, gpl=gpl)
            lines.append(f"{category}: {len(cads)} CADs to train on")
            lines += [f"  {line}" for line in attributions(cads)]
        except FeatmeshError as error:
            lines.append(f"{category}: {error}")
    return "\n".join(lines) + "\n"


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--yes", action="store_true", help="install, instead of telling only")
    parser.add_argument("--gpl", action="store_true", help="also packages, and CADs, under the GPL")
    parser.add_argument("--list", action="store_true", help="list the CADs found, with licences")
    parser.add_argument("--pascal3d", type=Path, help="folder with <category>/NN.off, for --list")
    args = parser.parse_args(words)
    wanted = FREE | (GPL if args.gpl else {})
    for name, (size, what, licence) in wanted.items():
        sys.stdout.write(f"{name} ({size}): {what}; {licence}\n")
    if args.gpl:
        note = "GPL: may be rendered to train on; the files are not passed on, the card names them"
        sys.stdout.write(f"{note}.\n")
    places = [str(FURNITURE), str(FLIGHTGEAR_DATA)] if args.gpl else [str(FURNITURE)]
    sys.stdout.write(f"CADs go to {', '.join(places)}\n")
    for command in commands(list(wanted), os.geteuid() == 0):
        sys.stdout.write(f"{'runs' if args.yes else 'would run'}: {' '.join(command)}\n")
        if args.yes:
            if shutil.which("apt-get") is None:
                raise SystemExit("obtain_cads: expected apt-get, got none; try: Debian or Ubuntu")
            subprocess.run(command, check=True)
    if args.list:
        sys.stdout.write(report(args.pascal3d, FLIGHTGEAR_DATA if args.gpl else None))


if __name__ == "__main__":
    main()
