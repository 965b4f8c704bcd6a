import dataclasses

import pytest
import torch

from featmesh.render.fragments import Fragments


def test_covered_is_where_a_face_is_and_results_cannot_be_changed():
    face_id = torch.tensor([[[-1, 0], [7, -1]]])
    found = Fragments(face_id, torch.zeros(1, 2, 2, 3), torch.zeros(1, 2, 2))
    assert found.covered.tolist() == [[[False, True], [True, False]]]
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.face_id = face_id
