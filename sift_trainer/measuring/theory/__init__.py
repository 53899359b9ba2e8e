"""The paper's quantities as they are measured on a model: p_j, beta_j, sigma and rho_R."""

from sift_trainer.measuring.theory.agreement import (
    Agreement,
    argmax_agreement,
    beta_from_margins,
    margins_from_losses,
    pairwise_agreement,
    wilson_interval,
)
from sift_trainer.measuring.theory.noise import NoiseFit, fit_noise, sigma_max
from sift_trainer.measuring.theory.ratios import (
    approximate_loss_ratio,
    expected_max_loss,
    expected_selected_loss,
    loss_ratio,
)

__all__ = [
    "Agreement",
    "NoiseFit",
    "approximate_loss_ratio",
    "argmax_agreement",
    "beta_from_margins",
    "expected_max_loss",
    "expected_selected_loss",
    "fit_noise",
    "loss_ratio",
    "margins_from_losses",
    "pairwise_agreement",
    "sigma_max",
    "wilson_interval",
]
