"""Claim about the energy's machine code: compiled now or read from a cache, it rounds alike."""

import os
import subprocess
import sys
from pathlib import Path

import featmesh

ROOT = Path(__file__).parents[2]
POSES = """
import hashlib
import numpy as np
from featmesh.inference.energy_numba import FusedEnergy
from tests.inference.test_energy import batch, comparison, pose
from tests.inference.test_shape_energy import surface

rng = np.random.default_rng(0)
R, t = batch([pose(twist) for twist in rng.normal(size=(40, 6)) * 0.2])
zoom, stretch = rng.normal(size=40) * 0.1, rng.normal(size=(40, 3)) * 0.05
plain, outlined = (FusedEnergy(comparison(), outline=outline) for outline in (False, True))
whole = plain.evaluate(R, t, zoom, stretch)
bent = outlined.evaluate(R, t, zoom, stretch, surface(rng.normal(size=5)))
told = [x for s in (whole, bent) for x in (s.energy, s.gradient, s.curvature, s.score)]
for values in (*told, plain.score_map(pose(), 0.1)):
    print(hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest())
"""


def test_the_run_that_compiles_rounds_like_those_after_it(tmp_path):
    package = str(Path(featmesh.__file__).parents[1])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((package, str(ROOT))),
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    command = [sys.executable, "-c", POSES]
    fresh, cached = (
        subprocess.check_output(command, text=True, env=environment, cwd=tmp_path) for _ in range(2)
    )
    assert len(fresh.split()) == 9
    assert list(tmp_path.rglob("*.nbc"))
    assert fresh == cached
