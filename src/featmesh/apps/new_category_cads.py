"""First stage of ``featmesh new-category``: read, check and align the CADs, and show them.

Leaves ``OUT/cads/learn`` and ``OUT/cads/held-out`` (one OFF a CAD, object frame, diagonal 1) and
``contact.png``. Nothing goes on before somebody has said that the fronts are right.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from featmesh.errors import DatasetError, InputError
from featmesh.geometry.clean import CleanMesh, clean
from featmesh.geometry.mesh import Mesh, read_mesh
from featmesh.geometry.mesh_file import MESH_KINDS
from featmesh.paths import write_whole
from featmesh.views.cad import Up
from featmesh.views.cad_model import Cad, turned
from featmesh.views.cad_sources import attributions, held_out
from featmesh.views.cads import read_render_folder
from featmesh.views.materials import dressed

from .new_category_config import NewCategoryConfig
from .new_category_frame import looks_sideways, upright
from .new_category_pictures import write_contact_sheet
from .new_category_run import Run, begin, begun, finish

FEWEST = 3  # CADs: two to learn from, one to test on
CONTACT = "contact.png"
UNDRESSED = (
    "car"  # plain CADs come back as they are; the front must be known before they are dressed
)


@dataclass(frozen=True, eq=False)
class Checked:
    """The CADs of the folder.

    Attributes:
        cads: to render, object frame; none of them refused.
        cleaned: to learn from, in the same order.
        refused: file name, code and message of the others.
    """

    cads: tuple[Cad, ...]
    cleaned: tuple[CleanMesh, ...]
    refused: tuple[tuple[str, str, str], ...]


def settle_cads(name: str, config: NewCategoryConfig, say: Callable[[str], None]) -> Run:
    """Return the run, with up and front known; does the first stage where it is not done.

    Raises:
        InputError: E_CAD_UP, E_CAD_FRONT (somebody has to look at the contact sheet), E_IO.
        DatasetError: E_DATA (fewer than three CADs that can be used).
        FeatmeshError: E_CONFIG (the folder is another run's).
    """
    known = begun(name, config)
    if known is not None:
        run = Run(name, config, *known, say)
        if run.is_done("cads"):
            return run
    started = time.monotonic()
    up: Up = known[0] if known else _up(config, say)
    front = known[1] if known else (config.front or 0.0) % 360
    found = read_checked(config.cad, config.like or name, up, front)
    for file, code, message in found.refused:
        say(f"left out: {file}: {code}: {message}")
    sheet = Path(config.out) / "cads" / CONTACT
    _draw(sheet, found)
    if known is None and config.front is None and not config.yes:
        raise _ask(found, sheet)
    _enough(found, config.cad)
    begin(name, config, up, front)
    run = Run(name, config, up, front, say)
    finish(run, "cads", _write(found, run), started)
    return run


def read_checked(folder: str, category: str, up: Up, front: float) -> Checked:
    """Return the CADs of a folder in the object frame, and which are refused.

    Args:
        folder: of mesh files.
        category: whose materials plain CADs get.
        up: frame of the files.
        front: degrees from -y to the true front, counter-clockwise from above.

    Raises:
        InputError: E_IO, E_LABELS as :func:`featmesh.views.cads.read_render_folder`.
        DatasetError: E_DATA where no file can be used.
    """
    found = read_render_folder(folder, UNDRESSED, up)
    cads, cleaned, refused = [], [], list(found.refused)
    for cad in found.cads:
        facing = turned(cad, -front) if front else cad
        try:
            cleaned.append(clean(whole_mesh(facing), cad.name))
            cads.append(dressed(facing, category))
        except InputError as error:
            refused.append((cad.name, error.code, error.args[0]))
    return Checked(tuple(cads), tuple(cleaned), tuple(sorted(refused)))


def whole_mesh(cad: Cad) -> Mesh:
    """Return all parts of a CAD in one mesh."""
    starts = np.cumsum([0, *(len(p.vertices) for p in cad.parts)])
    faces = [p.faces + start for p, start in zip(cad.parts, starts, strict=False)]
    vertices = np.concatenate([p.vertices for p in cad.parts])
    return Mesh(torch.from_numpy(vertices).double(), torch.from_numpy(np.concatenate(faces)).long())


def rendered(run: Run, names: list[str]) -> list[Cad]:
    """Return the CADs of these names, ready to be rendered."""
    found = read_checked(run.config.cad, run.looks_like, run.up, run.front)
    return [cad for cad in found.cads if cad.name in names]


def off_text(mesh: Mesh) -> str:
    """Return a mesh as an OFF file that reads back to the same bits."""
    rows = ["OFF", f"{len(mesh.vertices)} {len(mesh.faces)} 0"]
    rows += [f"{x!r} {y!r} {z!r}" for x, y, z in mesh.vertices.double().tolist()]
    rows += [f"3 {a} {b} {c}" for a, b, c in mesh.faces.tolist()]
    return "\n".join(rows) + "\n"


def _up(config: NewCategoryConfig, say: Callable[[str], None]) -> Up:
    """Return the frame of the files: as told, or as they look."""
    if config.up != "auto":
        return config.up
    meshes = []
    folder = Path(config.cad)
    for path in sorted(folder.glob("*")):
        if path.suffix.lower() in MESH_KINDS and path.suffix.lower() != ".glb":
            try:
                meshes.append(clean(read_mesh(path), path.name).mesh)
            except InputError:
                continue  # it is named where the folder is read
    if not meshes:
        return "z"  # GLB is turned as it is read
    found = upright(meshes)
    if not found.is_sure:
        raise InputError(
            "E_CAD_UP",
            f"new-category: expected --up or CADs that tell up from front, got {len(meshes)} that "
            f"do not; try: --up {found.axis}, and look at the contact sheet",
        )
    say(f"up is +{found.axis} in the files; --up says otherwise")
    return "y" if found.axis == "y" else "z"


def _draw(path: Path, found: Checked) -> None:
    shown = [(cad.name, whole_mesh(cad)) for cad in found.cads]
    told = [f"left out: {file}: {code}" for file, code, _ in found.refused]
    write_contact_sheet(path, shown, told)


def _ask(found: Checked, sheet: Path) -> InputError:
    """Return the message that somebody has to look at the contact sheet."""
    hint = "--front 90 or --front 270 (they seem to face sideways)"
    if not looks_sideways([c.mesh for c in found.cleaned]):
        hint = "--yes where they do, else --front DEGREES (90: they face to the object's left, +x)"
    return InputError(
        "E_CAD_FRONT",
        f"new-category: expected to be told where the fronts of {len(found.cads)} CADs are, got "
        f"neither --front nor --yes; try: look whether the yellow arrows in {sheet} point to the "
        f"fronts, then {hint}",
    )


def _enough(found: Checked, folder: str) -> None:
    if len(found.cads) >= FEWEST:
        return
    told = "".join(f"; {file}: {code}" for file, code, _ in found.refused)
    raise DatasetError(
        "E_DATA",
        f"new-category: expected {FEWEST} CADs or more in {folder}, got {len(found.cads)}{told}; "
        "try: 5 to 100 CADs of one category",
    )


def _write(found: Checked, run: Run) -> dict[str, Any]:
    """Write the aligned CADs; return what is told about them."""
    names = [cad.name for cad in found.cads]
    kept = held_out(names)
    placed = {}
    for mesh in found.cleaned:
        part = "held-out" if mesh.name in kept else "learn"
        path = run.folder("cads") / part / f"{mesh.name}.off"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, off_text(mesh.mesh))
        placed[mesh.name] = {"centre": list(mesh.report.centre), "diagonal": mesh.report.diagonal}
    return {
        "learn": [n for n in names if n not in kept],
        "held_out": list(kept),
        "placed": placed,
        "attributions": attributions(found.cads),
        "licences": sorted({cad.licence for cad in found.cads}),
        "refused": [dict(zip(("name", "code", "message"), r, strict=True)) for r in found.refused],
    }
