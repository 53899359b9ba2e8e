"""Pretrain BERT: scripts/pretrain_bert.py --config configs/quickstart.yaml [--field value ...]"""

import sys

from accelerate import PartialState

from sift_trainer.reproduction.bert import main
from sift_trainer.reproduction.configuration import ConfigError

if __name__ == "__main__":
    try:
        main(sys.argv[1:])
        PartialState().destroy_process_group()  # threads of an open group may abort at exit
    except ConfigError as error:
        sys.exit(f"error: {error}")
