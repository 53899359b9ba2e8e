"""SIFT for the Hugging Face Trainer (Das et al., ICML 2024)."""
