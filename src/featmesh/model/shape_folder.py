"""A shape space without a network: what ``learn-shape`` writes where no model is given.

``shape.json`` and ``shape.safetensors``: a template and how one code moves it. Nothing can be
estimated with it; it can be looked at, fitted to points, and given to a model.
"""

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from featmesh.config import config_from_dict
from featmesh.errors import CheckpointError
from featmesh.files import (
    check_schema,
    read_json,
    read_tensors,
    write_json_atomic,
    write_tensors_atomic,
)
from featmesh.geometry.mesh import Mesh

from .config import DeformationConfig
from .deformation import Deformation, build_deformation

SCHEMA = 1
MANIFEST, TENSORS = "shape.json", "shape.safetensors"
_OWN = ("schema", "category", "config", "sha256")


def find_shape_space(path: str | Path) -> Path | None:
    """Return the folder of a shape space, given that or its ``shape.json``; None: it is neither."""
    path = Path(path)
    if path.name == MANIFEST and os.path.isfile(path):
        return path.parent
    return path if os.path.isfile(path / MANIFEST) else None  # os.path: takes names of any length


@dataclass
class ShapeSpace:
    """A category's template and its shape space.

    Attributes:
        category: name, e.g. ``car``.
        template: the shape of the code 0, object units.
        deformation: moves it.
        extra: what else the file says: the CADs learned from, how well each is said.
    """

    category: str
    template: Mesh
    deformation: Deformation
    extra: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: str | Path) -> None:
        """Write the folder; errors as in :func:`featmesh.files.write_bytes_atomic`."""
        folder = Path(folder)
        digest = write_tensors_atomic(folder / TENSORS, self.tensors())
        config = asdict(self.deformation.config)
        own = {"schema": SCHEMA, "category": self.category, "config": config, "sha256": digest}
        write_json_atomic(folder / MANIFEST, {**own, **self.extra})

    def tensors(self) -> dict[str, Tensor]:
        """Return what ``shape.safetensors`` holds."""
        state = self.deformation.state_dict()
        found = {f"deformation.{name}": value for name, value in state.items()}
        found["template.vertices"] = self.template.vertices.float()
        found["template.faces"] = self.template.faces.int()
        if self.template.uv is not None:
            found["template.uv"] = self.template.uv.float()
        return found

    @classmethod
    def read(cls, folder: str | Path) -> "ShapeSpace":
        """Return the shape space in a folder.

        Raises:
            CheckpointError: E_CKPT_MISSING, E_CKPT_FORMAT, E_CKPT_VERSION, E_CKPT_HASH,
                E_CKPT_NONFINITE, or E_CKPT_CONFIG where tensors and sizes do not fit.
        """
        folder = Path(folder)
        manifest = read_json(folder / MANIFEST)
        check_schema(manifest, SCHEMA, folder / MANIFEST)
        tensors = read_tensors(folder / TENSORS, str(manifest.get("sha256")))
        config = config_from_dict(DeformationConfig, manifest.get("config", {}))
        try:
            vertices, faces = tensors["template.vertices"], tensors["template.faces"]
            mesh = Mesh(vertices.double(), faces.long(), tensors.get("template.uv"))
            deformation = build_deformation(config, mesh.checked("ShapeSpace: template"))
            state = {k[12:]: v for k, v in tensors.items() if k.startswith("deformation.")}
            deformation.load_state_dict(state)
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(
                "E_CKPT_CONFIG",
                f"{folder}: expected tensors that fit the configuration, got "
                f"{str(error).splitlines()[-1].strip()}; try: learn the shape space again",
            ) from error
        extra = {key: value for key, value in manifest.items() if key not in _OWN}
        category = str(manifest.get("category", ""))
        return cls(category, mesh, deformation.requires_grad_(False).eval(), extra)
