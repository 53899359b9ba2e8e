"""A `SiftTrainer` from the names of a model and a dataset, without a training script."""
