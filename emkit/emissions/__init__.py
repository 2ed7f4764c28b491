"""Observation laws, one per file, shared by mixtures and chains."""
