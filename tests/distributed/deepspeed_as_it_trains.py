"""DeepSpeed without a compiler: ``python -m tests.distributed.deepspeed_as_it_trains SCRIPT ...``
runs a script with it.

When its processes meet on a CPU, DeepSpeed compiles a reduction for inference, for a minute and a
half. Training never calls it, so here DeepSpeed is told that it cannot be compiled.
"""

import runpy
import sys


def settle() -> None:
    import deepspeed

    deepspeed.ops.__compatible_ops__ = {}


if __name__ == "__main__":
    settle()
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
