"""Train the paper's ResNet: scripts/train_resnet.py --config configs/resnet50/table_3.yaml"""

import sys

from accelerate import PartialState

from sift_trainer.reproduction.configuration import ConfigError
from sift_trainer.reproduction.resnet import main

if __name__ == "__main__":
    try:
        main(sys.argv[1:])
        PartialState().destroy_process_group()  # the threads of one that is left open may abort
    except ConfigError as error:
        sys.exit(f"error: {error}")
