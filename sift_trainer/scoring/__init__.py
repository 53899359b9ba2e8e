"""How hard a sample is: criteria, scored positions, and one file for each kind of task."""
