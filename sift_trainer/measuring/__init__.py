"""What is measured of a model without a trace: gradients, and how far two choices agree."""
