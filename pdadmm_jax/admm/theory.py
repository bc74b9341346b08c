"""The paper's convergence theory as code: where the descent of L_rho is certain, and by how much.

Theorem 1 and Lemma 1: let f be S-Lipschitz and rho > max(4 nu S^2, (sqrt(17) + 1) nu / 2).  Then
L_rho falls at every iteration by at least

    C1 sum_l ||z_l^{k+1} - z_l^k||^2 + C2 sum_l ||q_l^{k+1} - q_l^k||^2,

C1 = nu/2 - 2 nu^2 S^2 / rho,  C2 = rho/2 - 2 nu^2 / rho - nu/2,  both sums over l < L.

C1's first term is the hidden z-update's proximal weight; for a weight of ``proximal`` times nu it
reads proximal nu/2, and the first bound 4 nu S^2 / proximal.  The argument needs of that update
only that it is not worse than staying, so it covers numerically solved activations too.  It needs
u = nu (q - f(z)) at the start, which ``init``, ``from_params`` and ``grow`` provide and which a
change of nu upsets for one iteration.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp

from pdadmm_jax._typing import Array, Number
from pdadmm_jax.admm.config import Config, check_config


class Certificate(NamedTuple):
    """Whether the penalties lie in the certified region, and the constants of Lemma 1."""

    holds: Array  # bool: rho > least_rho
    C1: Array
    C2: Array
    least_rho: Array  # the bound rho has to exceed


def lemma_1(nu: Number, rho: Number, lipschitz: float, proximal: Number = 1.0) -> Certificate:
    """Says whether (nu, rho, S) lies in the certified region.

    Args:
        nu: penalty on z = p W + b and q = f(z).
        rho: penalty on p = q.
        lipschitz: S of the activation.
        proximal: weight of the z-update's proximal term in units of nu.
    """
    nu, rho, proximal = jnp.asarray(nu), jnp.asarray(rho), jnp.asarray(proximal)
    least_rho = nu * jnp.maximum(4 * lipschitz**2 / proximal, (math.sqrt(17) + 1) / 2)
    C1 = proximal * nu / 2 - 2 * (nu * lipschitz) ** 2 / rho
    C2 = rho / 2 - 2 * nu**2 / rho - nu / 2
    return Certificate(rho > least_rho, C1, C2, least_rho)


def certificate(config: Config) -> Certificate:
    """Whether these penalties, with this activation, lie in the certified region.

    Never where p and q are on a grid.
    """
    check_config(config)
    found = lemma_1(config.nu, config.rho, config.activation.lipschitz, config.proximal)
    return found if config.grid is None else found._replace(holds=jnp.zeros_like(found.holds))


def certified(config: Config, margin: float = 1.05) -> Config:
    """Certified mode: the same configuration with rho raised into the certified region.

    Every solver of this library keeps Lemma 1's conditions on p and W, so that with it
    L_rho never rises, up to rounding.

    Args:
        config: penalties and structure, concrete (not traced).
        margin: rho is raised to at least this multiple of the bound, above 1.

    Returns:
        A configuration whose ``certificate`` holds.

    Raises:
        ValueError: no rho is certified, because the activation's Lipschitz constant is unknown,
            the proximal term is switched off or p and q are on a grid; or a margin of 1 or less.
    """
    check_config(config)
    if not margin >= 1 + 1e-6:
        raise ValueError(
            f"margin is {margin}, but has to be 1.000001 or more: the region is open, and single "
            "precision has to tell rho from its bound."
        )
    if not math.isfinite(config.activation.lipschitz):
        raise ValueError(
            f"activation.lipschitz is {config.activation.lipschitz}: no penalty is certified; "
            "declare it, as in NumericActivation(function, lipschitz=1.0)."
        )
    if config.grid is not None:
        raise ValueError(f"grid is {config.grid}, on which nothing is certified: set it to None.")
    if float(config.proximal) == 0:
        raise ValueError("proximal is 0, which no penalty certifies: set it to 1, the paper's.")
    least = float(certificate(config).least_rho)
    return config.replace(rho=max(float(config.rho), margin * least))
