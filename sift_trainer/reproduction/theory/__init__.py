"""Greedy SGD and SGD on convex problems where the theory's constants are known exactly."""
