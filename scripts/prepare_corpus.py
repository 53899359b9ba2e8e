"""Prepare a corpus: scripts/prepare_corpus.py --config configs/bert_base/base.yaml --num_proc 32"""

import sys

from sift_trainer.config import ConfigError
from sift_trainer.pretraining import prepare

if __name__ == "__main__":
    try:
        prepare(sys.argv[1:])
    except ConfigError as error:
        sys.exit(f"error: {error}")
