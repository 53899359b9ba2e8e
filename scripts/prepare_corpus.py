"""Prepare a corpus: scripts/prepare_corpus.py --config configs/bert_base/base.yaml --num_proc 32"""

import sys

from sift_trainer.reproduction.bert import prepare
from sift_trainer.reproduction.configuration import ConfigError

if __name__ == "__main__":
    try:
        prepare(sys.argv[1:])
    except ConfigError as error:
        sys.exit(f"error: {error}")
