"""Checkpoints that are whole or not taken, and resuming the same run."""
