"""Clusters: profiles, the cost of a step, plans, Slurm jobs and diagnosis."""
