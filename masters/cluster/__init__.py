"""Clusters: how a laptop reaches them, sends runs there, sees their nodes, and writes RayJobs."""
