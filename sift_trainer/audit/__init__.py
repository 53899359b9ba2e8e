"""What sifting picks and brings while a model trains: the probe's figures, every n steps."""

from sift_trainer.audit.auditor import Auditor
from sift_trainer.audit.figures import Audit, audit_metrics

__all__ = ["Audit", "Auditor", "audit_metrics"]
