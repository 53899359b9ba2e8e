"""The paper's convergence bounds and their constants; `measuring.theory` measures the latter."""

from sift_trainer.theory.constants import (
    SIGMA_LIMIT,
    argmax_agreement_bound,
    beta_from_agreement,
    beta_from_weights,
    gaussian_loss_ratio_bound,
    nu,
    p_sigma,
    p_sigma_symmetric,
    sigma_max_symmetric,
)
from sift_trainer.theory.convergence import (
    approximate_greedy_sgd_bound,
    crossing_loss,
    crossing_step,
    greedy_sgd_bound,
    greedy_sgd_floor,
    sgd_bound,
)

__all__ = [
    "SIGMA_LIMIT",
    "approximate_greedy_sgd_bound",
    "argmax_agreement_bound",
    "beta_from_agreement",
    "beta_from_weights",
    "crossing_loss",
    "crossing_step",
    "gaussian_loss_ratio_bound",
    "greedy_sgd_bound",
    "greedy_sgd_floor",
    "nu",
    "p_sigma",
    "p_sigma_symmetric",
    "sgd_bound",
    "sigma_max_symmetric",
]
