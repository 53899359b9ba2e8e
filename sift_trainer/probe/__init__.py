"""Would sifting pay? Measurements and a recommendation before a run. Nothing is trained."""

from sift_trainer.probe.probing import probe
from sift_trainer.probe.reference import reference_losses
from sift_trainer.probe.report import write_report
from sift_trainer.probe.results import Choice, Descent, Estimate, Figures, ProbeResult

__all__ = [
    "Choice",
    "Descent",
    "Estimate",
    "Figures",
    "ProbeResult",
    "probe",
    "reference_losses",
    "write_report",
]
