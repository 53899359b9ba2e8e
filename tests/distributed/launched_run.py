"""What each process finds out about its launch: ``launched_run.py FOLDER [--field value ...]``.

It writes the error at the construction of a trainer, and the one for a model without a wrapper.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import HfArgumentParser

from sift_trainer import SiftTrainer, SiftTrainingArguments
from sift_trainer.processes.launch import check_wrapped
from tests.training import Rows, bert


def refusal(attempt: Callable[[], Any]) -> str | None:
    try:
        attempt()
    except ValueError as error:
        return str(error)
    return None


def main(folder: Path, arguments: list[str]) -> None:
    arguments += ["--output_dir", str(folder / "out"), "--report_to", "none"]
    (args,) = HfArgumentParser(SiftTrainingArguments).parse_args_into_dataclasses(arguments)
    found = {
        "world_size": args.world_size,
        "trainer": refusal(lambda: SiftTrainer(bert(), args, train_dataset=Rows(48))),
        "bare_model": refusal(lambda: check_wrapped(bert(), args)),
    }
    (folder / f"{os.getpid()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
