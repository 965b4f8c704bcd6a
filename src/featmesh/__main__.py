"""``python -m featmesh`` is the command ``featmesh``."""

from featmesh.cli.main import main

if __name__ == "__main__":
    main()
