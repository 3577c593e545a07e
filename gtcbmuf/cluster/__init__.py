"""Clusters: their profile, what a step costs on them, plans, Slurm jobs, diagnosis."""
