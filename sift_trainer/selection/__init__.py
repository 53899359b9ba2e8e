"""When to sift, how many samples to keep, and which; taking them out of a batch."""
