"""The paper's BERT experiment (Section 7.1) as a job: from one configuration to its tables."""

from sift_trainer.reproduction.bert.job import PRETRAINING, main, prepare

__all__ = ["PRETRAINING", "main", "prepare"]
