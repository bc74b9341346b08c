"""Experiments with pdadmm_jax: ``python -m experiments --help``."""

import os

# Linear systems of layers are small: where other work keeps the cores busy, OpenBLAS's threads wait
# for each other a hundred times longer than they compute.  Read when JAX is loaded, hence here.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
