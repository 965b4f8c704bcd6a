"""What ``featmesh batch`` is told: torch-free."""

from dataclasses import dataclass, field
from typing import Literal

from featmesh.inference.config import EstimateConfig


@dataclass(frozen=True)
class RayConfig:
    """The Ray cluster of a batch with ``engine`` ray; changes no result."""

    address: str = ""
    """HOST:PORT of a running cluster, or auto for the one of this machine; empty = start one here
    and end it with the run"""
    cpus: int = 0
    """logical CPUs of a cluster that is started: more than workers; 0 = two more"""
    stall_s: float = 900.0
    """seconds without any result after which the run is ended; above limit_s"""


@dataclass(frozen=True)
class BatchConfig:
    """Estimate many photos."""

    model: str = "car"
    """name of a bundled model, or a model folder; of several, joined by commas, or of any (one
    of each bundled category) the one that explains a photo best"""
    task: Literal["pose", "shape"] = "pose"
    """what to estimate: the pose; then also the object's own shape"""
    workers: int = 0
    """processes, of one thread each; 0 = one a core; changes no result"""
    engine: Literal["local", "ray"] = "local"
    """where they work: on this machine, or on a Ray cluster; changes no result"""
    limit_s: float = 300.0
    """seconds a photo may take; one that takes more is given up and stands in quarantine.jsonl"""
    part_rows: int = 100
    """photos a part file"""
    allow_truncated: bool = False
    """use what can be read of truncated photos"""
    ray: RayConfig = field(default_factory=RayConfig)
    """the cluster, where engine is ray"""
    search: EstimateConfig = field(default_factory=EstimateConfig)
    """settings of the method"""
