"""What each process finds out about its launch: ``launched_run.py FOLDER [--field value ...]``.

It writes how many processes train together, and what refuses the construction of a trainer.
"""

import json
import os
import sys
from pathlib import Path

from transformers import HfArgumentParser

from sift_trainer import SiftTrainer, SiftTrainingArguments
from tests.distributed.launch import leave
from tests.training import Rows, bert


def main(folder: Path, arguments: list[str]) -> None:
    arguments += ["--output_dir", str(folder / "out"), "--report_to", "none"]
    (args,) = HfArgumentParser(SiftTrainingArguments).parse_args_into_dataclasses(arguments)
    found = {"world_size": args.world_size, "refusal": None}
    try:
        SiftTrainer(bert(), args, train_dataset=Rows(48))
    except ValueError as error:
        found["refusal"] = str(error)
    (folder / f"{os.getpid()}.json").write_text(json.dumps(found))
    if args.world_size > 1:
        leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
