"""The oracle of sweeps on every schedule: a literal NumPy float64 transcription, layer by layer.

Every layer has a tick at which it meets a batch on its way up, and one on its way down; weights
move at the end of a tick.  Where all ticks are the same, this is one batch after the other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from tests import reference

Pair = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass
class Proximal:
    """argmin mean ||z - p W - b||^2 + ridge m ||(W, b) - old||^2 for one layer, with momentum."""

    nu: float
    ridge: float
    momentum: float
    average: float
    clipping: float | None = None
    updates: float | None = None
    least_f: float | None = None

    def begin(self, W, b):
        self.count = 0
        self.gram, self.weight = np.zeros((len(W) + 1,) * 2), 0.0
        self.velocity = 0.0
        self.weights = np.concatenate([W, b[None]])
        return self

    def move(self, p, r, decay=0.0, bias=True):
        ones = np.concatenate([p, np.full((len(p), 1), float(bias))], axis=1)
        block = ones.T @ ones / len(p)
        block[-1, -1] = 1.0  # the constant counts in the mean diagonal entry, b or no b
        self.gram = self.average * self.gram + (1 - self.average) * block
        self.weight = self.average * self.weight + 1 - self.average
        mean = self.gram / self.weight
        ridge = self.ridge * np.trace(mean) / len(mean)
        wish = (ones.T @ r / len(p) - decay) / self.nu
        step = np.linalg.solve(mean + ridge * np.eye(len(mean)), wish)
        self.velocity = self.momentum * self.velocity + step
        if self.least_f is not None:
            projection = ones @ np.linalg.solve(mean + ridge * np.eye(len(mean)), ones.T) / len(p)
            freedom, explained = np.trace(projection), np.sum(r * (projection @ r))
            unexplained = np.sum(r**2) - explained
            if (explained / freedom) / (unexplained / (len(p) - freedom)) < self.least_f:
                self.velocity = np.zeros_like(step)
        if self.clipping is not None:
            size = max(np.linalg.norm(self.weights), 0.1 * self.weights.shape[1] ** 0.5)
            most, length = self.clipping * size, np.linalg.norm(self.velocity)
            if length > most:
                self.velocity = self.velocity * (most / length)
        update = falling(self.count, self.updates) * self.velocity
        self.count += 1
        self.weights = self.weights + update
        return update[:-1], update[-1]


@dataclasses.dataclass
class Adam:
    """Adam (Kingma and Ba), algorithm 1, on the negative of what the samples ask for."""

    rate: float
    updates: float | None = None

    def begin(self, W, b):
        self.first = self.second = np.zeros((len(W) + 1, W.shape[1]))
        self.count = 0
        del b
        return self

    def move(self, p, r, decay=0.0, bias=True):
        ones = np.concatenate([p, np.full((len(p), 1), float(bias))], axis=1)
        slope = -ones.T @ r / len(p) + decay
        self.count += 1
        self.first = 0.9 * self.first + 0.1 * slope
        self.second = 0.999 * self.second + 0.001 * slope**2
        first = self.first / (1 - 0.9**self.count)
        second = self.second / (1 - 0.999**self.count)
        rate = self.rate * falling(self.count - 1, self.updates)
        step = -rate * first / (np.sqrt(second) + 1e-8)
        return step[:-1], step[-1]


@dataclasses.dataclass
class Lion:
    """Lion (Chen et al.), algorithm 2 without weight decay, on the negative of the same."""

    rate: float
    updates: float | None = None

    def begin(self, W, b):
        self.kept, self.count = np.zeros((len(W) + 1, W.shape[1])), 0
        del b
        return self

    def move(self, p, r, decay=0.0, bias=True):
        ones = np.concatenate([p, np.full((len(p), 1), float(bias))], axis=1)
        slope = -ones.T @ r / len(p) + decay
        rate = self.rate * falling(self.count, self.updates)
        step = -rate * np.sign(0.9 * self.kept + 0.1 * slope)
        self.count += 1
        self.kept = 0.99 * self.kept + 0.01 * slope
        return step[:-1], step[-1]


@dataclasses.dataclass
class Prodigy:
    """Prodigy (Mishchenko and Defazio), algorithm 4 with every layer for itself, on the same.

    r and s, of whose factors only those count that they do not share, are of the first neurons.
    """

    rate: float = 1.0
    updates: float | None = None
    start: float = 1e-5

    def begin(self, W, b):
        self.first_weights = self.weights = np.concatenate([W, b[None]])
        self.first, self.second, self.s = (np.zeros_like(self.weights) for _ in range(3))
        self.r, self.estimate, self.count = 0.0, self.start, 0
        return self

    def move(self, p, r, decay=0.0, bias=True):
        ones = np.concatenate([p, np.full((len(p), 1), float(bias))], axis=1)
        slope = -ones.T @ r / len(p) + decay
        rate = self.rate * falling(self.count, self.updates)
        self.count += 1
        d, beta3 = self.estimate, np.sqrt(0.999)
        self.first = 0.9 * self.first + 0.1 * d * slope
        self.second = 0.999 * self.second + 0.001 * d**2 * slope**2
        corrected = np.sqrt(self.second / (1 - 0.999**self.count)) + 1e-8 * self.start
        step = -rate * d * self.first / (1 - 0.9**self.count) / corrected

        factor = rate * d**2 * np.sqrt(1 - 0.999**self.count) / (1 - 0.9**self.count)
        way = (self.first_weights - self.weights) * slope
        neurons = max(16, slope.shape[1] // 16)
        self.r = beta3 * self.r + factor * way[:, :neurons].sum()
        self.s = beta3 * self.s + factor * slope
        size = np.abs(self.s[:, :neurons]).sum()
        if size > 0:
            self.estimate = max(d, self.r / size)
        self.weights = self.weights + step
        return step[:-1], step[-1]


def falling(done: int, updates: float | None) -> float:
    """What is left of a rate that falls to 0 along half a cosine."""
    return 1.0 if updates is None else (1 + np.cos(np.pi * min(done / updates, 1))) / 2


def respond(f: Callable, slope: Callable, a: np.ndarray, pull: np.ndarray) -> np.ndarray:
    """argmin_d d^2 / 2 - pull f(a + d) by trying: fixed points from several starts, and a kink."""
    tries = [np.zeros_like(a), pull * 1.0, -a]
    for start in (np.zeros_like(a), pull * 1.0):
        d = start
        for _ in range(200):
            d = 0.5 * d + 0.5 * pull * slope(a + d)
        tries.append(d)
    values = np.stack([0.5 * d**2 - pull * f(a + d) for d in tries])
    best = np.argmin(values, axis=0)
    return np.take_along_axis(np.stack(tries), best[None], 0)[0]


def sweep(
    params: Sequence[Pair],
    rules: Sequence,
    batches: Sequence[Pair],
    nu: float,
    f: Callable,
    slope: Callable,
    ticks: Sequence[int] | None = None,
    passed: Callable[[int, np.ndarray], np.ndarray] = lambda _, rows: rows,
    late: int = 0,
    in_flight: int | None = None,
    parts: int = 1,
    blocks: int = 1,
    mu: float = 0.0,
    bias: bool = True,
    residual_block: int = 0,
) -> tuple[list[Pair], list[float]]:
    """All batches of one pass or several, as far as the last one's entering.

    Args:
        params: (W, b) of every layer.
        rules: of every layer, begun; they are changed.
        batches: (x, y) of every batch.
        nu: penalty.
        f: activation.
        slope: its derivative.
        ticks: after how many ticks a batch comes to each layer, if they follow one another without
            waiting; None for one batch at a time.
        passed: (number of a layer from 0, what it and the one above tell each other) -> as told.
        late: how many updates before the newest are the weights that a batch meets, where it comes
            to all layers at once.
        in_flight: batches whose update is still to come when the last one has entered; None for
            ``late``.
        parts: equal ones of a batch whose risks are told apart.
        blocks: so many of ``batches`` in turn move the weights together, those of all layers when
            the last has come down to the first layer; some may have no samples.
        mu: weight of (mu/2) ||W||^2.
        bias: whether layers have an intercept.
        residual_block: hidden layers of a residual block, from the second hidden layer on.

    Returns:
        The weights, and the mean risk of every part of a batch that has come to the last layer.
    """
    if ticks is None:
        in_flight = late if in_flight is None else in_flight
        versions, losses = [list(params)] * (max(late, in_flight) + 1), []
        for batch in batches:
            at_once = [0] * len(params)
            more = {"parts": parts, "mu": mu, "bias": bias, "residual_block": residual_block}
            moved, risks = sweep(
                versions[-1 - late], rules, [batch], nu, f, slope, at_once, passed, **more
            )
            pairs = zip(moved, versions[-1 - late], strict=True)
            changes = [(W - V, b - c) for (W, b), (V, c) in pairs]
            newest = [(W + V, b + c) for (W, b), (V, c) in zip(versions[-1], changes, strict=True)]
            versions = [*versions[1:], newest]
            losses += risks
        return versions[-1 - in_flight], losses
    params, L, turn = [(W.copy(), b.copy()) for W, b in params], len(params), max(ticks)
    p = {(0, k): x for k, (x, _) in enumerate(batches)}
    a, u, losses, left = {}, {}, {}, {}
    begin = {}  # the first layer of the block that ends with a layer
    if residual_block:
        for first in range(1, L - 1, residual_block):
            begin[min(first + residual_block, L - 1) - 1] = first
    around = {}  # u of the end of a block, by the layer where it begins
    for t in range(len(batches)):
        moves = []
        for layer in range(L):
            k = t - ticks[layer]
            if 0 <= k < len(batches):
                W, b = params[layer]
                a[layer, k] = p[layer, k] @ W + b
                q = f(a[layer, k])
                if layer in begin:
                    q = q + p[begin[layer], k]
                p[layer + 1, k] = passed(layer, q)
        for layer in reversed(range(L)):
            k = t - (2 * turn - ticks[layer])
            if not 0 <= k < len(batches):
                continue
            if layer == L - 1:
                y = np.eye(a[layer, k].shape[1])[batches[k][1]]
                r = nu * (reference.softmax_z(a[layer, k], y, nu) - a[layer, k])
                pieces = zip(np.split(a[layer, k], parts), np.split(y, parts), strict=True)
                losses[k] = [
                    reference.softmax_risk(*piece) / max(len(piece[1]), 1) for piece in pieces
                ]
            else:
                r = nu * respond(f, slope, a[layer, k], u[layer, k] / nu)
            if layer in begin:
                around[begin[layer], k] = u[layer, k]
            below = r @ params[layer][0].T + around.get((layer, k), 0)
            u[layer - 1, k] = passed(layer - 1, below)
            left[layer, k] = p[layer, k], r
        for layer in range(L) if (t + 1 - 2 * turn) % blocks == 0 else ():
            down = t + 1 - (2 * turn - ticks[layer])  # batches that have come down
            newest = [left[layer, k] for k in range(down // blocks * blocks)][-blocks:]
            if newest:
                together = map(np.concatenate, zip(*newest, strict=True))
                W = params[layer][0]
                decay = np.concatenate([mu * W, np.zeros((1, W.shape[1]))])
                moves.append((layer, rules[layer].move(*together, decay, bias)))
        for layer, (W, b) in moves:
            params[layer] = params[layer][0] + W, params[layer][1] + b
    return params, [risk for k in sorted(losses) for risk in losses[k]]
