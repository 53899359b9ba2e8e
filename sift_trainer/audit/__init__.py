"""Audits: every n steps of a training, which rows sifting chooses and what they bring."""

from sift_trainer.audit.audit_numbers import Audit, audit_metrics
from sift_trainer.audit.auditor import Auditor

__all__ = ["Audit", "Auditor", "audit_metrics"]
