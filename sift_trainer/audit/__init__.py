"""Audits: every n steps of a training, which rows sifting chooses and what they bring."""

from sift_trainer.measuring.audit_numbers import Audit, audit_metrics
from sift_trainer.measuring.auditor import Auditor

__all__ = ["Audit", "Auditor", "audit_metrics"]
