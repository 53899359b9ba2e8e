"""The paper's quantities as functions: bounds, their constants, and how to measure these."""

from sift_trainer.reproduction.theory.bounds import (
    approximate_greedy_sgd_bound,
    crossing_loss,
    crossing_step,
    greedy_sgd_bound,
    greedy_sgd_floor,
    sgd_bound,
)
from sift_trainer.theory.agreement import (
    Agreement,
    argmax_agreement,
    argmax_agreement_bound,
    beta_from_agreement,
    beta_from_margins,
    beta_from_weights,
    margins_from_losses,
    pairwise_agreement,
    wilson_interval,
)
from sift_trainer.theory.noise import (
    SIGMA_LIMIT,
    NoiseFit,
    fit_noise,
    p_sigma,
    p_sigma_symmetric,
    sigma_max,
    sigma_max_symmetric,
)
from sift_trainer.theory.ratios import (
    approximate_loss_ratio,
    expected_max_loss,
    expected_selected_loss,
    gaussian_loss_ratio_bound,
    loss_ratio,
    nu,
)

__all__ = [
    "SIGMA_LIMIT",
    "Agreement",
    "NoiseFit",
    "approximate_greedy_sgd_bound",
    "approximate_loss_ratio",
    "argmax_agreement",
    "argmax_agreement_bound",
    "beta_from_agreement",
    "beta_from_margins",
    "beta_from_weights",
    "crossing_loss",
    "crossing_step",
    "expected_max_loss",
    "expected_selected_loss",
    "fit_noise",
    "gaussian_loss_ratio_bound",
    "greedy_sgd_bound",
    "greedy_sgd_floor",
    "loss_ratio",
    "margins_from_losses",
    "nu",
    "p_sigma",
    "p_sigma_symmetric",
    "pairwise_agreement",
    "sgd_bound",
    "sigma_max",
    "sigma_max_symmetric",
    "wilson_interval",
]
