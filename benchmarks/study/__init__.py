"""When does sifting pay? What `time_to_accuracy.py` trains, charges and tells."""
