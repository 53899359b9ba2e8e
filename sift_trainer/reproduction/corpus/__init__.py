"""Documents become batches of masked sentence pairs."""
