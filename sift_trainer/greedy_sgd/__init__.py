"""Greedy SGD against SGD on convex problems where all that the theory speaks of is known."""
