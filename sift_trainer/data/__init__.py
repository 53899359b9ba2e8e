"""From raw data to batches: documents, sentence pairs, masking."""
