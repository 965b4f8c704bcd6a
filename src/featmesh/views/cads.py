"""A folder of CAD files, each read by itself: cleaned for shape spaces, coloured for rendering."""

from dataclasses import dataclass
from pathlib import Path

from featmesh.errors import DatasetError, InputError
from featmesh.geometry.clean import CleanMesh, clean
from featmesh.geometry.mesh import read_mesh
from featmesh.geometry.mesh_file import MESH_KINDS
from featmesh.geometry.mesh_groups import NameKind

from .cad import Up, read_cad
from .cad_labels import joined, with_group_labels, with_vertex_labels
from .cad_model import Cad
from .materials import dressed


@dataclass(frozen=True, eq=False)
class CadFolder:
    """The CADs of a folder.

    Attributes:
        meshes: those that can be used, sorted by file name; each is called as its file.
        refused: file name, error code and message of the others, in the same order.
    """

    meshes: tuple[CleanMesh, ...]
    refused: tuple[tuple[str, str, str], ...]


def read_cad_folder(folder: str | Path, who: str = "learn-shape") -> CadFolder:
    """Return the OFF, OBJ, PLY, STL and GLB files of a folder, cleaned; a bad file harms no other.

    Other files and the folders inside are passed over. Meshes are taken as in the object frame
    (front -y, up +z); GLB, whose frame is fixed, is turned into it.

    Args:
        folder: holds the files themselves.
        who: named in errors.

    Raises:
        InputError: E_IO where there is no such folder.
        DatasetError: E_DATA where no file can be used.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(
            "E_IO", f"{who}: expected a folder of CADs, got {root}; try: check the path"
        )
    meshes: list[CleanMesh] = []
    refused: list[tuple[str, str, str]] = []
    for path in sorted(root.iterdir(), key=lambda path: path.name):
        if path.suffix.lower() not in MESH_KINDS or path.is_dir():
            continue
        try:
            meshes.append(clean(read_mesh(path, checked=False), path.name))
        except InputError as error:
            refused.append((path.name, error.code, error.args[0]))
    if not meshes:
        raise DatasetError("E_DATA", _nothing(root, who, refused))
    return CadFolder(tuple(meshes), tuple(refused))


@dataclass(frozen=True, eq=False)
class RenderFolder:
    """The CADs of a folder, to be rendered.

    Attributes:
        cads: those that can be used, sorted by file name; plain ones have materials.
        refused: file name, error code and message of the others, in the same order.
    """

    cads: tuple[Cad, ...]
    refused: tuple[tuple[str, str, str], ...]


def read_render_folder(
    folder: str | Path, category: str, up: Up = "z", part_kind: NameKind | None = None
) -> RenderFolder:
    """Return the mesh files of a folder with colours and part labels; a bad file harms no other.

    OBJ files keep their materials and bitmaps; others get materials as their category has them. A
    file ``NAME.labels.json`` beside a CAD labels its vertices (see ``cad_labels``). A file
    ``LICENCE`` or ``LICENSE`` (.txt, .md) names the terms in its first line.

    Args:
        folder: holds the files themselves; others and folders inside are passed over.
        category: whose materials plain CADs get.
        up: the frame of the files, see :func:`featmesh.views.cad.read_cad`.
        part_kind: lines of the OBJ files that name parts; None = no such labels.

    Raises:
        InputError: E_IO where there is no such folder; E_LABELS where labels do not fit.
        DatasetError: E_DATA where no file can be used.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(
            "E_IO", f"render-views: expected a folder of CADs, got {root}; try: check the path"
        )
    terms = _terms(root)
    cads: list[Cad] = []
    refused: list[tuple[str, str, str]] = []
    for path in sorted(root.iterdir(), key=lambda path: path.name):
        if path.suffix.lower() not in MESH_KINDS or path.is_dir():
            continue
        try:
            cads.append(dressed(_with_labels(read_cad(path, terms, up), path, part_kind), category))
        except InputError as error:
            if error.code in ("E_LABELS", "E_MESH_GROUPS"):
                raise
            refused.append((path.name, error.code, error.args[0]))
    if not cads:
        raise DatasetError("E_DATA", _nothing(root, "render-views", refused))
    return RenderFolder(tuple(joined(cads)), tuple(refused))


def _with_labels(cad: Cad, path: Path, part_kind: NameKind | None) -> Cad:
    labels = path.with_name(f"{path.stem}.labels.json")
    if labels.is_file():
        return with_vertex_labels(cad, path, labels)
    if part_kind is not None and path.suffix.lower() == ".obj":
        return with_group_labels(cad, path, part_kind)
    return cad


def _terms(folder: Path) -> str:
    """Return the first line of a folder's licence file."""
    for name in ("LICENCE", "LICENSE"):
        for ending in ("", ".txt", ".md"):
            path = folder / (name + ending)
            if path.is_file():
                lines = path.read_text("utf-8", errors="replace").strip().splitlines()
                return lines[0][:200] if lines else "not stated"
    return "not stated"


def _nothing(root: Path, who: str, refused: list[tuple[str, str, str]]) -> str:
    kinds = " ".join(MESH_KINDS)
    got = "none"
    if refused:
        name, code, _ = refused[0]
        got = f"{len(refused)} that cannot be read ({name}: {code}, ...)"
    return (
        f"{who}: expected mesh files {kinds} in {root}, got {got}; try: put 5 to 100 CADs of one "
        "category there, front towards -y, up along +z"
    )
