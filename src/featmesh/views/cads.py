"""A folder of CAD files, each read and cleaned by itself: what shape spaces are learned from."""

from dataclasses import dataclass
from pathlib import Path

from featmesh.errors import DatasetError, InputError
from featmesh.geometry.clean import CleanMesh, clean
from featmesh.geometry.mesh import read_mesh
from featmesh.geometry.mesh_file import MESH_KINDS


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
