"""Record spans of real libraries anew, or for the first time.

``python -m tests.libraries.record FOLDER [CONFIGURATION ...]`` writes
``FOLDER/<configuration>/<scenario>.json``; ``python -m tests.genai_cases.choose FOLDER`` then
chooses those to keep as tests.
"""

import subprocess
import sys
from pathlib import Path

from tests.libraries.configurations import BY_NAME
from tests.libraries.environments import ROOT, python_of
from tests.libraries.live import environment_of


def main(folder: Path, *names: str) -> None:
    """Record the configurations of these names, or all."""
    for name in names or BY_NAME:
        python = python_of(BY_NAME[name].environment)
        command = (python, "-m", "tests.libraries.drivers.record", name, folder.resolve())
        subprocess.run(command, check=True, cwd=ROOT, env=environment_of(name))
        print(f"{name}: {len(list((folder / name).glob('*.json')))} recordings")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
