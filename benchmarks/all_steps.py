"""All benchmarks of a step in one command, within ten minutes on a GPU.

    python benchmarks/all_steps.py --output docs/benchmarks

Step time and peak memory, the scoring pass alone, growth, then step time with `torch.compile`, each
in a process of its own with the defaults of the device; results are written as soon as they are
there, as ``step_time_gpu.json`` and so on (``_cpu`` on a CPU). What fails, or has not begun when
the time is up, is recorded with its error in ``all_steps_gpu.json``; the rest goes on. Arguments
behind ``--`` go to every part.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from measured_steps import describe_machine, device_name

FOLDER = Path(__file__).parent
# Part -> script, its arguments, and the share of all time that its rounds may take.
PARTS: dict[str, tuple[str, list[str], float]] = {
    "step_time": ("step_time.py", [], 0.25),
    "scoring_pass": ("scoring_pass.py", [], 0.1),
    "growth": ("growth.py", [], 0.2),
    "step_time_compile": ("step_time.py", ["--compile", "--exits", "1", "--no_memory"], 0.4),
}


def run_part(
    name: str, output: Path, more: list[str], minutes: float, end: float
) -> dict[str, Any]:
    """Run one part until it has ended or ``end``, of `time.monotonic`, has come."""
    script, own, share = PARTS[name]
    left = end - time.monotonic()
    if left <= 0:
        return {"error": "not begun: the time was up"}
    limit = min(share * minutes, left / 60)
    command = [sys.executable, str(FOLDER / script), *own, *more]
    command += ["--output", str(output), "--minutes", f"{limit:.2f}"]
    began = time.monotonic()
    try:
        code = subprocess.run(command, timeout=left).returncode
        error = None if code == 0 else f"exit status {code}"
    except subprocess.TimeoutExpired:
        error = "stopped: the time was up"
    seconds = round(time.monotonic() - began, 1)
    return {"seconds": seconds, "written": output.exists(), "error": error}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"), help="a folder")
    parser.add_argument("--minutes", type=float, default=10, help="for all parts together")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--device", choices=["cpu", "cuda"], help="cuda if there is one")
    split = argv.index("--") if "--" in argv else len(argv)
    options = parser.parse_args(argv[:split])
    device = device_name(options.device)
    suffix = "gpu" if device == "cuda" else "cpu"
    print(describe_machine(), flush=True)
    options.output.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * options.minutes
    parts: dict[str, Any] = {}
    for name in options.parts:
        print(f"\n{name}", flush=True)
        output = options.output / f"{name}_{suffix}.json"
        output.unlink(missing_ok=True)  # no result of another run under this one's name
        more = ["--device", device, *argv[split + 1 :]]
        parts[name] = run_part(name, output, more, options.minutes, end)
        told = {"command": ["benchmarks/all_steps.py", *argv], "parts": parts}
        file = options.output / f"all_steps_{suffix}.json"
        file.write_text(json.dumps(told, indent=2) + "\n")
    failed = [name for name, part in parts.items() if part["error"]]
    print(f"\nfailed: {', '.join(failed)}" if failed else f"\nall results are in {options.output}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
