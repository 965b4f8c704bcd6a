import numpy as np
from featmesh.render.kernels import coverage
def test_a():
    p=np.array([[[1,1,1],[9,1,1],[1,9,1.],[9,9,1]]],np.float32)
    assert coverage(p,np.array([[0,2,1],[1,2,3]],np.int32),10,10,True)[0].max()==1
