"""Print the requirements of a pyproject.toml, without the project itself.

python requirements.py pyproject.toml [--extra NAME ...]
"""

import argparse
import sys
import tomllib
from pathlib import Path


def main() -> None:
    """Print them one a line, as `pip install --requirement` reads them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--extra", action="append", default=[])
    given = parser.parse_args()
    project = tomllib.loads(given.file.read_text(encoding="utf-8"))["project"]
    for line in [
        *project["dependencies"],
        *(line for extra in given.extra for line in project["optional-dependencies"][extra]),
    ]:
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
