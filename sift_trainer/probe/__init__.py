"""Would sifting pay? Measurements and a recommendation before a run. Nothing is trained."""

from sift_trainer.probe.measurements import Estimate
from sift_trainer.probe.probing import check_settings, probe
from sift_trainer.probe.report import write_report
from sift_trainer.probe.results import Choice, Descent, Figures, GradientNorms, ProbeResult

__all__ = [
    "Choice",
    "Descent",
    "Estimate",
    "Figures",
    "GradientNorms",
    "ProbeResult",
    "check_settings",
    "probe",
    "write_report",
]
