"""Where the time of a compiled program goes, by kind of operation, from JAX's own profiler."""

from __future__ import annotations

import gzip
import json
import re
import tempfile
import time
from collections import Counter
from pathlib import Path

import jax

from experiments.benchmark.programs import Program

# The last word of an operation's name in the program, as JAX wrote it.
KINDS = {
    "dot_general": "products",
    "transpose": "products",
    "reduce": "sums",
    "reduce_sum": "sums",
    "reduce_max": "sums",
    "concatenate": "arrays of neighbours",
}
_INSTRUCTION = re.compile(r"%([\w.\-]+) = [^\n]*? ([\w\-]+)\(([^\n]*)")
_COMPUTATION = re.compile(r"^%([\w.\-]+) \([^\n]*\{\n(.*?)^\}", re.MULTILINE | re.DOTALL)


def time_by_kind(program: Program, iterations: int) -> dict[str, float]:
    """Seconds per iteration of every kind of operation but products, and what is left for those.

    Products run on several threads, which the profiler does not add up; all else is subtracted from
    the time of the whole.

    Args:
        program: what to run, twice; its first run warms up.
        iterations: how many of them it makes.
    """
    carry = jax.block_until_ready(program.call(program.carry))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, create_perfetto_trace=True):
            begin = time.perf_counter()
            jax.block_until_ready(program.call(carry))
            seconds = (time.perf_counter() - begin) / iterations
        (file,) = Path(folder).rglob("perfetto_trace.json.gz")
        trace = json.loads(gzip.decompress(file.read_bytes()))
    kinds = _kinds(program.text)
    found: Counter[str] = Counter()
    for event in trace["traceEvents"] if isinstance(trace, dict) else trace:
        kind = kinds.get(event.get("args", {}).get("hlo_op", ""))
        if kind and kind != "products" and event.get("ph") == "X":
            found[kind] += event["dur"] / 1e6 / iterations
    return {"products": seconds - sum(found.values()), **dict(found.most_common())}


def _kinds(text: str) -> dict[str, str]:
    """The kind of every operation that does work itself; loops and calls only hold others."""
    multiplying = {name for name, body in _COMPUTATION.findall(text) if " dot(" in body}

    def kind(rest: str) -> str:
        calls, path = re.search(r"calls=%([\w.\-]+)", rest), re.search(r'op_name="([^"]*)"', rest)
        if calls and calls[1] in multiplying:
            return "products"
        return KINDS.get(path[1].rsplit("/", 1)[-1] if path else "", "element by element")

    return {
        name: kind(rest)
        for name, operation, rest in _INSTRUCTION.findall(text)
        if operation not in ("while", "call", "conditional")
    }
