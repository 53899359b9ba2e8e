"""Scores and gradients of a model without a trace on it, and agreement with exact losses."""
