"""Experiments with pdadmm_jax: ``python -m experiments --help``."""

import os

# First weights are orthogonalised by LAPACK.  These matrices are small: where other work keeps the
# cores busy, OpenBLAS's threads wait for each other.  Read when JAX is loaded, hence here.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
