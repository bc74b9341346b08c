"""Algorithm 1 of pdADMM (ICDM 2020) transcribed literally: the slow float64 oracle of the tests.

Rows are samples. Lists are indexed by layer from 0, so boundary i lies between layers i and i + 1:
q[i] and u[i] belong to it, and the constraint there is p[i + 1] = q[i]. Nothing is carried from one
formula to the next; every quantity is evaluated afresh from its definition. Activations and risks
go by name (ACTIVATIONS, RISKS); the risk is summed over samples.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit, logsumexp, ndtr, wrightomega

# Residuals of the z_L problems are taken in extended precision: in float64 a rounding error of the
# risk's gradient would come back divided by nu. (Where longdouble is double, only accuracy drops.)
EXTENDED = np.longdouble


@dataclass(frozen=True)
class Variables:
    """All variables; p[0] is the data x. Shapes: p (N, n_l), W (n_l, n_{l+1}), z (N, n_{l+1})."""

    p: list  # L arrays
    W: list  # L arrays
    b: list  # L arrays (n_{l+1},)
    z: list  # L arrays
    q: list  # L - 1 arrays, shaped like z
    u: list  # L - 1 arrays, shaped like z


def sech2(z):
    """1 / cosh(z)^2 without overflow or cancellation."""
    e = np.exp(-2 * np.abs(z))
    return 4 * e / (1 + e) ** 2


SLOPES = {"relu": 0.0, "leaky_relu": 0.01}  # f(z) = max(z, 0) + slope min(z, 0)
ACTIVATIONS = {  # name: (f, f')
    "relu": (lambda z: np.maximum(z, 0), lambda z: np.where(z > 0, 1.0, 0.0)),
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1.0, 0.01)),
    "tanh": (np.tanh, sech2),
    "sigmoid": (expit, lambda z: expit(z) * expit(-z)),
    "softplus": (lambda z: np.logaddexp(0, z), expit),
    "gelu": (  # z Phi(z), Phi the normal distribution function: the exact (erf) form
        lambda z: z * ndtr(z),
        lambda z: ndtr(z) + z * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi),
    ),
}


# The Lagrangian


def square(x):
    """||x||^2."""
    return np.sum(x * x)


def terms(v, y, nu, rho, mu, f, risk):
    """The separate terms of L_rho, by name."""
    f, L = ACTIVATIONS[f][0], len(v.W)
    layers, boundaries = range(L), range(L - 1)
    return {
        "risk": RISKS[risk][0](v.z[-1], y),
        "linear": nu / 2 * sum(square(v.z[l] - v.p[l] @ v.W[l] - v.b[l]) for l in layers),
        "activation": nu / 2 * sum(square(v.q[i] - f(v.z[i])) for i in boundaries),
        "dual": sum(np.sum(v.u[i] * (v.p[i + 1] - v.q[i])) for i in boundaries),
        "consensus": rho / 2 * sum(square(v.p[i + 1] - v.q[i]) for i in boundaries),
        "weight": mu / 2 * sum(square(v.W[l]) for l in layers),
    }


def lagrangian(v, y, nu, rho, mu, f, risk):
    """L_rho = risk + linear + activation + weight + dual + consensus."""
    return sum(terms(v, y, nu, rho, mu, f, risk).values())


def objective(v, y, nu, mu, f, risk):
    """The objective of Problem 2: risk + linear + activation, + weight (0 in the paper)."""
    t = terms(v, y, nu, 0.0, mu, f, risk)
    return t["risk"] + t["linear"] + t["activation"] + t["weight"]


def residuals(v):
    """||p_{l+1} - q_l||_F for each boundary."""
    return [np.sqrt(square(v.p[i + 1] - v.q[i])) for i in range(len(v.q))]


def phi(p, W, b, z, nu, mu=0.0, rho=0.0, q=None, u=None):
    """(nu/2)||z - p W - b||^2 + (mu/2)||W||^2 + <u, p - q> + (rho/2)||p - q||^2 of one layer.

    q and u are those of the boundary before it; without them (layer 0) their terms are absent.
    """
    value = nu / 2 * square(z - p @ W - b) + mu / 2 * square(W)
    return value if q is None else value + np.sum(u * (p - q)) + rho / 2 * square(p - q)


def grad_p(l, v, nu, rho):
    """d phi / d p = -nu (z - p W - b) W^T + u + rho (p - q), for l >= 1."""
    r = v.z[l] - v.p[l] @ v.W[l] - v.b[l]
    return -nu * r @ v.W[l].T + v.u[l - 1] + rho * (v.p[l] - v.q[l - 1])


def grad_W(l, v, nu, mu):
    """d phi / d W = -nu p^T (z - p W - b) + mu W."""
    r = v.z[l] - v.p[l] @ v.W[l] - v.b[l]
    return -nu * v.p[l].T @ r + mu * v.W[l]


# The sub-updates


def search(x, g, function, start, growth, slack=1e-14, trials=2000):
    """The first x - g / t, t = start, start growth, ..., that the quadratic model bounds:

        function(new) <= function(x) + <g, new - x> + (t/2) ||new - x||^2

    up to rounding, a relative `slack` of the sizes of the numbers compared: a step whose decrease
    ||g||^2 / t is below it cannot be judged and is taken.
    """
    t, old = start, function(x)
    for _ in range(trials):
        new = x - g / t
        value, linear, quadratic = function(new), np.sum(g * (new - x)), t / 2 * square(new - x)
        rounding = slack * (abs(value) + abs(old) + abs(linear) + quadratic)
        if value <= old + linear + quadratic + rounding:
            return new
        t *= growth
    raise RuntimeError(f"no step size from {start} by factors {growth} within {trials} trials")


def descend(x, g, image, nu, ridge):
    """x - g / t, t = nu ||image(g)||^2 / ||g||^2 + ridge: the smallest t that `search` could take.

    image is the linear map of p or W in p W. t does not depend on g's scale, so g is scaled first.
    """
    if not np.any(g):
        return x
    d = g / np.max(np.abs(g))
    return x - g / (nu * square(image(d)) / square(d) + ridge)


def p_step(l, v, nu, rho, solver, start=10.0, growth=2.0):
    """New p[l], l >= 1: p - grad_p phi / tau, or argmin_p phi. A zero gradient moves nothing.

    "search": tau from `search`. "layer": the smallest admissible tau* = nu ||g W||^2/||g||^2 + rho.
    "unit": that tau* for every sample (row) by itself. "exact": argmin_p phi, which is
    p - g (nu W W^T + rho I)^{-1}.
    """
    p, W, b, z, q, u = v.p[l], v.W[l], v.b[l], v.z[l], v.q[l - 1], v.u[l - 1]
    g = grad_p(l, v, nu, rho)
    if solver == "search":
        return search(p, g, lambda p: phi(p, W, b, z, nu, 0.0, rho, q, u), start, growth)
    if solver == "layer":
        return descend(p, g, lambda d: d @ W, nu, rho)
    if solver == "unit":
        return np.stack([descend(p[n], g[n], lambda d: d @ W, nu, rho) for n in range(len(p))])
    if solver == "exact":
        return p - np.linalg.solve(nu * W @ W.T + rho * np.eye(len(W)), g.T).T
    raise ValueError(f"unknown solver {solver!r}")


def W_step(l, v, nu, mu, solver, start=10.0, growth=2.0, damping=0.0):
    """New W[l]: W - grad_W phi / theta, or a damped argmin_W. A zero gradient moves nothing.

    "search": theta from `search`. "layer": theta* = nu ||p G||^2 / ||G||^2 + mu. "unit": that
    theta* for every output neuron (column) by itself. "exact": argmin_X phi(X) + (lambda/2)
    ||X - W||^2, lambda = damping * mean diagonal of nu p^T p, which is
    W - (nu p^T p + (mu + lambda) I)^{-1} G.
    """
    p, W, b, z = v.p[l], v.W[l], v.b[l], v.z[l]
    G = grad_W(l, v, nu, mu)
    if not np.any(G):
        return W
    if solver == "search":  # phi without the boundary's terms: they do not depend on W
        return search(W, G, lambda W: phi(p, W, b, z, nu, mu), start, growth)
    if solver == "layer":
        return descend(W, G, lambda D: p @ D, nu, mu)
    if solver == "unit":
        columns = zip(W.T, G.T, strict=True)
        return np.stack([descend(w, g, lambda d: p @ d, nu, mu) for w, g in columns], axis=1)
    if solver == "exact":
        gram = nu * p.T @ p
        damped = gram + (mu + damping * np.mean(np.diag(gram))) * np.eye(len(W))
        return W - np.linalg.solve(damped, G)
    raise ValueError(f"unknown solver {solver!r}")


def b_step(l, v):
    """argmin_b (nu/2) ||z - p W - b||^2 = mean over samples of z - p W."""
    return np.mean(v.z[l] - v.p[l] @ v.W[l], axis=0)


def hidden_value(z, a, q, z_old, f, proximal):
    """((z - a)^2 + (q - f(z))^2 + proximal (z - z_old)^2) / 2, elementwise: nu has cancelled."""
    return ((z - a) ** 2 + (q - ACTIVATIONS[f][0](z)) ** 2 + proximal * (z - z_old) ** 2) / 2


def hidden_z(a, q, z_old, f, proximal=1.0):
    """argmin_z (nu/2)(z - a)^2 + (nu/2)(q - f(z))^2 + (proximal nu/2)(z - z_old)^2, elementwise.

    The global minimiser; of two equal minima, the smaller z.
    """
    if f in SLOPES:
        pulls, weight = a + proximal * z_old, 1 + proximal
        below = np.minimum((pulls + SLOPES[f] * q) / (weight + SLOPES[f] ** 2), 0)
        above = np.maximum((pulls + q) / (weight + 1), 0)
        value_below = hidden_value(below, a, q, z_old, f, proximal)
        value_above = hidden_value(above, a, q, z_old, f, proximal)
        return np.where(value_above < value_below, above, below)
    rows = [smooth_z(*row, f, proximal) for row in zip(a, q, z_old, strict=True)]
    return np.array(rows).reshape(a.shape)


def smooth_z(a, q, z_old, f, proximal):
    """`hidden_z` of one row, f smooth: scan h' for its upward zero crossings, bisect, compare.

    With c = (a + proximal z_old) / (1 + proximal), h' = (1 + proximal)(z - c) - (q - f) f', and the
    minimiser has |z - c| <= |q - f(c)| / sqrt(1 + proximal). Within |z| < 40, where f bends, the
    scan's cells are no wider than 0.02; beyond, h' is a straight line to rounding.
    """
    value, slope = ACTIVATIONS[f]
    weight = 1 + proximal
    c = (a + proximal * z_old) / weight
    reach = 1.01 * np.abs(q - value(c)) / np.sqrt(weight) + 0.01
    even = c[:, None] + reach[:, None] * np.linspace(-1, 1, 1001)
    bends = np.clip(np.linspace(-40, 40, 4001), (c - reach)[:, None], (c + reach)[:, None])
    grid = np.sort(np.concatenate([even, bends], axis=1), axis=1)

    def rising(z, j):  # the sign of h' at points z of elements j
        return weight * (z - c[j]) - (q[j] - value(z)) * slope(z) >= 0

    up = rising(grid, np.arange(len(c))[:, None])
    up[:, 0], up[:, -1] = False, True  # h is higher at the ends than at c
    element, cell = np.nonzero(~up[:, :-1] & up[:, 1:])
    lo, hi = grid[element, cell], grid[element, cell + 1]
    for _ in range(100):
        middle = (lo + hi) / 2
        right = rising(middle, element)
        lo, hi = np.where(right, lo, middle), np.where(right, middle, hi)
    best, z = np.full(len(c), np.inf), c.copy()
    for j, root in zip(element, (lo + hi) / 2, strict=True):
        height = hidden_value(root, a[j], q[j], z_old[j], f, proximal)
        if height < best[j]:
            best[j], z[j] = height, root
    return z


def q_step(i, v, nu, rho, f):
    """argmin_q of L_rho at boundary i: (rho p_{i+1} + u_i + nu f(z_i)) / (rho + nu)."""
    return (rho * v.p[i + 1] + v.u[i] + nu * ACTIVATIONS[f][0](v.z[i])) / (rho + nu)


def u_step(i, v, rho):
    """u_i + rho (p_{i+1} - q_i)."""
    return v.u[i] + rho * (v.p[i + 1] - v.q[i])


# Risks, and the last layer's z = argmin R(z; y) + (nu/2) ||z - a||^2


def softmax_risk(z, y):
    """sum_n logsumexp(z_n) - <y_n, z_n>; y holds target rows that sum to 1 (one-hot or soft)."""
    return np.sum(logsumexp(z, axis=1) - np.sum(y * z, axis=1))


def softmax_z(a, y, nu):
    """z with softmax(z) - y + nu (z - a) = 0, row by row.

    With v = a + y / nu and k = logsumexp(z), s = softmax(z) satisfies s_i = nu omega(v_i - k -
    log nu), omega being Wright's function (omega + log omega = x). sum_i s_i = 1 is bisected for k,
    which lies in [logsumexp(v) - 1/nu, logsumexp(v)]; Newton steps then remove the rounding errors.
    """
    v = a + y / nu
    hi = logsumexp(v, axis=1, keepdims=True)
    lo = hi - 1 / nu
    for _ in range(200):
        k = (lo + hi) / 2
        total = np.sum(nu * wrightomega(v - k - np.log(nu)), axis=1, keepdims=True)
        lo, hi = np.where(total > 1, k, lo), np.where(total > 1, hi, k)
    z = (v - wrightomega(v - k - np.log(nu))).astype(EXTENDED)
    for n in range(len(z)):
        for _ in range(5):
            e = np.exp(z[n] - np.max(z[n]))
            s = e / np.sum(e)
            g = (s - y[n] + nu * (z[n] - a[n])).astype(float)
            s = s.astype(float)
            z[n] -= np.linalg.solve(np.diag(s + nu) - np.outer(s, s), g)
    return z.astype(float)


def squared_risk(z, y):
    """(1/2) ||z - y||^2."""
    return square(z - y) / 2


def squared_z(a, y, nu):
    """(y + nu a) / (1 + nu)."""
    return (y + nu * a) / (1 + nu)


def logistic_risk(z, y):
    """sum log(1 + exp(z)) - y z over all entries; y holds labels 0 or 1, shaped like z."""
    return np.sum(np.logaddexp(0, z) - y * z)


def logistic_z(a, y, nu):
    """z with sigmoid(z) - y + nu (z - a) = 0, elementwise: bisected for d = z - a.

    nu d = y - sigmoid lies in [y - 1, y].
    """
    a, y = np.asarray(a, EXTENDED), np.asarray(y, EXTENDED)
    lo, hi = (y - 1) / nu, y / nu
    for _ in range(200):
        d = (lo + hi) / 2
        e = np.exp(-np.abs(a + d))
        sigmoid = np.where(a + d > 0, 1 / (1 + e), e / (1 + e))
        right = sigmoid - y + nu * d > 0
        lo, hi = np.where(right, lo, d), np.where(right, d, hi)
    return (a + (lo + hi) / 2).astype(float)


def hinge_risk(z, y):
    """sum_n max_i (z_ni + [i != y_n]) - z_n,y_n (Crammer and Singer); y holds integer labels."""
    rows = zip(z, y, strict=True)
    return sum(np.max(row + (np.arange(len(row)) != k)) - row[k] for row, k in rows)


def hinge_z(a, y, nu):
    """a + (e_y - alpha) / nu with alpha the projection of nu (a + 1 - e_y) + e_y on the simplex.

    R(z) = max_alpha <alpha, z + 1 - e_y> - z_y over the simplex; minimise over z, then over alpha.
    The projection of x is max(x - t, 0), t = (sum of the k largest x - 1) / k for the largest k
    whose k-th largest x exceeds that t.
    """
    z = np.array(a, EXTENDED)
    for n, label in enumerate(y):
        one = np.eye(a.shape[1], dtype=EXTENDED)[label]
        x = nu * (z[n] + 1 - one) + one
        descending = np.sort(x)[::-1]
        levels = (np.cumsum(descending) - 1) / np.arange(1, len(x) + 1)
        t = levels[np.nonzero(descending > levels)[0][-1]]
        z[n] += (one - np.maximum(x - t, 0)) / nu
    return z.astype(float)


RISKS = {  # name: (R(z, y), argmin_z R(z, y) + (nu/2) ||z - a||^2)
    "softmax": (softmax_risk, softmax_z),
    "squared": (squared_risk, squared_z),
    "logistic": (logistic_risk, logistic_z),
    "hinge": (hinge_risk, hinge_z),
}


# Algorithm 1


def z_step(l, v, y, nu, f, risk, proximal=1.0):
    """New z[l]: `hidden_z` before the last layer, the risk's minimiser at it; a = p W + b."""
    a = v.p[l] @ v.W[l] + v.b[l]
    if l == len(v.W) - 1:
        return RISKS[risk][1](a, y, nu)
    return hidden_z(a, v.q[l], v.z[l], f, proximal)


def iterate(
    v, y, nu, rho, f, risk, mu=0.0, solver_p="search", solver_W="search", start=10.0, growth=2.0,
    damping=0.0, proximal=1.0, bias=True,
):  # fmt: skip
    """One iteration: p (not p[0]), W, b, z, q, u; each sub-update is parallel over the layers.

    A sub-update reads the new values of those before it and the old values of everything else.
    """
    layers, boundaries = range(len(v.W)), range(len(v.W) - 1)
    p = [p_step(l, v, nu, rho, solver_p, start, growth) for l in layers[1:]]
    v = replace(v, p=[v.p[0], *p])
    v = replace(v, W=[W_step(l, v, nu, mu, solver_W, start, growth, damping) for l in layers])
    v = replace(v, b=[b_step(l, v) for l in layers]) if bias else v
    v = replace(v, z=[z_step(l, v, y, nu, f, risk, proximal) for l in layers])
    v = replace(v, q=[q_step(i, v, nu, rho, f) for i in boundaries])
    return replace(v, u=[u_step(i, v, rho) for i in boundaries])
