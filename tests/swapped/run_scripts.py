"""Run scripts one after the other, each as a fresh ``__main__``: imports take longer than they do.

``run_scripts.py PLAN``: a JSON list of ``[script, argument, ...]``.
"""

import json
import runpy
import sys
from pathlib import Path


def main(plan: Path) -> None:
    for script, *arguments in json.loads(plan.read_text()):
        print(f"---- {script} {' '.join(arguments)}", flush=True)
        sys.argv = [script, *arguments]
        runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
