"""What a line of `accelerate launch` tells the processes that it starts.

``accelerate_line.py OUTPUT LINE ...`` writes their environment, and what they are to run; that of a
line for several processes, which Accelerate leaves to PyTorch's launcher.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch.distributed.run
from accelerate.commands import launch


def main(output: Path) -> None:
    def write(args: Any) -> None:
        script = args.training_script
        told = {
            "environment": dict(os.environ),
            "processes": int(args.nproc_per_node),
            "script": script.replace(".", "/") + ".py" if args.module else script,
            "arguments": args.training_script_args,
        }
        output.write_text(json.dumps(told))

    torch.distributed.run.run = write
    launch.main()


if __name__ == "__main__":
    file = Path(sys.argv.pop(1))
    main(file)
