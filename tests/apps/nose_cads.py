"""Small CADs that have a front: blocks with a nose and a cabin."""

from pathlib import Path

from views.cad_samples import blocks, obj_text

SIZES = ((0.9, 2.0, 0.5), (1.0, 2.3, 0.6), (0.8, 1.9, 0.7), (1.1, 2.1, 0.55))


def nosed(width, length, height):
    """A block of this size with a nose at -y and a cabin towards +y."""
    nose = ((0.35 * width, -0.3 * length, 0.1 * height), (0.65 * width, 0, 0.6 * height))
    cabin = ((0.1 * width, 0.5 * length, height), (0.9 * width, 0.9 * length, 1.7 * height))
    return blocks(((0, 0, 0), (width, length, height)), nose, cabin)


def write_cads(folder: Path, count: int = 4) -> Path:
    """Write that many of them, and a licence."""
    folder.mkdir(parents=True)
    for k, size in enumerate(SIZES[:count]):
        (folder / f"{k}.obj").write_text(obj_text(nosed(*size)))
    (folder / "LICENSE").write_text("CC0, made here\n")
    return folder
