"""The numbers of the paper that runs are shown beside.

Das et al., ICML 2024, https://proceedings.mlr.press/v235/das24b.html. Its hours are of eight A100:
compare them with each other only.
"""

NAME = "Das et al., ICML 2024"
LINK = "https://proceedings.mlr.press/v235/das24b.html"

BERT_LAYERS = 12

# Table 1: validation accuracy at the last step, by criterion and exit layer.
BASELINE_ACCURACY = 0.6466
ACCURACY = {
    "loss": {1: 0.6599, 2: 0.6597, 3: 0.6604, 6: 0.6607, 12: 0.6640},
    "entropy": {1: 0.6641, 2: 0.6672, 3: 0.6678, 6: 0.6680, 12: 0.6664},
}

# Table 6: hours of sampling; its caption: hours of forward and backward, in all cases.
SAMPLING_HOURS = {
    "loss": {1: 0.8452, 2: 1.1662, 3: 1.4764, 6: 2.5901, 12: 4.5086},
    "entropy": {1: 0.9121, 2: 1.2181, 3: 1.5398, 6: 2.6195, 12: 4.5148},
}
FORWARD_HOURS, BACKWARD_HOURS = 3.8, 7.9

# Section 1 and 7.1, read off Figure 2.
TARGET_ACCURACY = 0.64
BASELINE_HOURS_TO_TARGET = 57
HOURS_TO_TARGET = {"loss": {1: 43}, "entropy": {1: 40}}

# Section 7.1 and Appendix F, by the fields of a configuration.
BERT_SETTING = {
    "model.num_hidden_layers": 12,
    "model.hidden_size": 768,
    "corpus.max_length": 512,
    "updates": 800_000,
    "rows of an update": 256,
    "training.learning_rate": 1e-4,
    "training.sift_warmup_steps": 20_000,
}

# Section 7.2 and Appendix G: 100 epochs of batches of 125.
IMAGE_SETTINGS = {
    dataset: {
        "model.depths": [3, 4, 6, 3],
        "images.train_rows": images,
        "updates": 100 * images // 125,
        "rows of an update": 125,
    }
    for dataset, images in (("cifar100", 50_000), ("food101", 75_750))
}


# Tables 2 to 5, by data set and whether runs have the baseline's training time (else its number of
# updates). Test accuracy in percent by max_lr: baseline, early exit, last exit. None: the run did
# not converge.
IMAGE_TABLES: dict[tuple[str, bool], dict[float, tuple[float | None, ...]]] = {
    ("cifar100", True): {
        5e-2: (67.68, 66.64, 63.92),
        1e-2: (69.04, 73.45, 70.13),
        5e-3: (69.02, 73.26, 72.91),
        1e-3: (58.54, 66.85, 71.09),
    },
    ("cifar100", False): {
        5e-2: (67.68, 68.16, 68.12),
        1e-2: (69.04, 75.41, 74.48),
        5e-3: (69.02, 75.06, 76.93),
        1e-3: (58.54, 68.35, 75.14),
    },
    ("food101", True): {
        5e-2: (57.50, None, None),
        1e-2: (59.52, 64.03, 64.01),
        5e-3: (58.88, 63.23, 66.47),
        1e-3: (44.04, 59.29, 63.52),
    },
    ("food101", False): {
        5e-2: (57.50, None, None),
        1e-2: (59.52, 64.04, 64.19),
        5e-3: (58.88, 63.22, 66.64),
        1e-3: (44.04, 59.27, 63.68),
    },
}
