"""Experiments with pdadmm_jax: ``python -m experiments --help``."""
