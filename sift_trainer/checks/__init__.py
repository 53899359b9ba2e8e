"""What cannot work is refused: classes, settings and batches."""
