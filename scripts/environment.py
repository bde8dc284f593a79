"""Write environment.yml from pyproject.toml; ``--check`` says whether it is in step instead."""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEADER = """\
# Made from pyproject.toml by scripts/environment.py: edit that one, then run it.
name: clipmend
channels:
  - conda-forge
  - nodefaults
dependencies:
  - python{python}
  - pip
  - git
  - make
  - pip:
"""


def environment(pyproject: str) -> str:
    """Return environment.yml for the text of a pyproject.toml.

    All packages come from pip, as they do without conda: one set of builds, one set of pins.
    """
    project = tomllib.loads(pyproject)["project"]
    packages = [*project["dependencies"], *project["optional-dependencies"]["dev"], "--editable ."]
    lines = [f"      - {package}\n" for package in packages]
    return HEADER.format(python=project["requires-python"].replace("==", "=")) + "".join(lines)


def main(arguments: list[str]) -> int:
    """Write or check the file; return the exit status."""
    path = ROOT / "environment.yml"
    wanted = environment((ROOT / "pyproject.toml").read_text())
    if arguments == ["--check"]:
        if path.is_file() and path.read_text() == wanted:
            return 0
        print("environment.yml is not in step with pyproject.toml; run scripts/environment.py.")
        return 1
    path.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
