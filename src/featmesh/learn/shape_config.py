"""How a category's shape space is learned: torch-free, saved beside every checkpoint."""

from dataclasses import dataclass, field
from typing import Literal

from featmesh.model.config import DeformationConfig

SizeKind = Literal["each", "shared"]


@dataclass(frozen=True)
class ShapeLossConfig:
    """Weights of the losses; distances are in object units."""

    chamfer: float = 1.0
    """mean distance between the deformed template and a CAD's outside, both ways"""
    registered: float = 0.02
    """mean distance to the registered vertices, beside the other losses"""
    copies: float = 1.0
    """mean distance of the wobbled copies, which have no surface of their own"""
    normals: float = 1e-3
    """1 - cosine between the normals of nearest points"""
    amount: float = 1e-4
    """mean length of the displacements"""
    edges: float = 1e-4
    """mean difference of neighbours' displacements, per length of their edge"""
    laplacian: float = 0.005
    """mean distance of a displacement from its neighbours' mean"""
    flip: float = 0.02
    """how far a face has turned beyond 80 degrees from the template's"""
    code: float = 1e-5
    """half the mean squared code"""


@dataclass(frozen=True)
class ShapeLearnConfig:
    """Learn a category's shape space from CADs of any topology."""

    cad: str
    """folder of CADs (OFF, OBJ, PLY, STL, GLB) in the object frame: front -y, up +z"""
    out: str
    """run folder: registered CADs, checkpoints, report and, at the end, the model"""
    category: str = "car"
    """PASCAL3D+ name"""
    model: str = ""
    """bundled model or model folder that gets the shape space; none: a folder with the template
    and the shape space only, the template wrapped onto the CADs"""
    size: SizeKind = "each"
    """whether each CAD has the size 1 (its diagonal), or the CADs share a unit and their mean
    size is 1, so that small ones stay small"""
    steps: int = 800
    """steps that draw the space to the registered vertices"""
    surface_steps: int = 800
    """steps after them, on the CADs' surfaces (field, gcn)"""
    batch: int = 4
    """CADs per step, and as many copies"""
    points: int = 20_000
    """points kept of each CAD's outside"""
    samples: int = 3_000
    """of them, and of the template's, per step and CAD"""
    lr: float = 3e-4
    """peak learning rate of the network"""
    lr_code: float = 2e-3
    """peak learning rate of the codes"""
    noise: float = 0.05
    """standard deviation of what is added to the codes in each step"""
    copies: int = 6
    """wobbled copies of each CAD (field, gcn)"""
    wobble: float = 0.006
    """how far copies are displaced (standard deviation), object units"""
    wobble_reach: float = 0.25
    """over what distance alike"""
    save_every: int = 100
    """steps between two checkpoints"""
    seed: int = 0
    """of every draw"""
    threads: int = 0
    """of torch; 0: as many as there are cores"""
    deformation: DeformationConfig = field(default_factory=DeformationConfig)
    """kind and sizes of the shape space"""
    loss: ShapeLossConfig = field(default_factory=ShapeLossConfig)
    """weights of the losses"""
