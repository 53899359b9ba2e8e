"""When sifting pays: what `time_to_accuracy.py` trains, charges and reports."""
