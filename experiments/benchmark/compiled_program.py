"""What a compiled program says of itself: its messages, its matrix products and its memory.

Reads the text of XLA's optimised modules (``compiled.as_text()``), one of the few places where
the bytes of messages can be read rather than believed.
"""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([\w\-]+)\((.*)$")
_SHAPE = re.compile(r"(pred|bf16|f8\w*|[a-z]+\d+)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition)=%?([\w.\-]+)")
_BRANCHES = re.compile(
    r"true_computation=%?([\w.\-]+), false_computation=%?([\w.\-]+)|branch_computations=\{([^}]*)\}"
)
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_NAME = re.compile(r"%([\w.\-]+)")
_WORD = re.compile(r"%?([\w.\-]+)")
_COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-broadcast",
    "collective-permute",
    "ragged-all-to-all",
    "reduce-scatter",
)

_PRODUCTS = {"dot", "convolution"}  # TPUs call them convolutions
_NO_TRAFFIC = ("parameter", "get-tuple-element", "tuple", "constant", "bitcast", "while")


class Instruction(NamedTuple):
    """One instruction: name, shapes of its result, operation, and the rest of its line."""

    name: str
    shapes: list[tuple[str, tuple[int, ...]]]
    operation: str
    rest: str


Module = dict[str, list[Instruction]]  # the instructions of every computation
Graph = dict[str, set[str]]


class Message(NamedTuple):
    """One collective operation.

    Attributes:
        kind: such as collective-permute.
        dtype: XLA's name of the type that travels.
        bytes: what one device hands over.
        in_loop: whether it belongs to the body of a loop.
    """

    kind: str
    dtype: str
    bytes: int
    in_loop: bool


class Products(NamedTuple):
    """Multiply-adds of the matrix products, those of loops as often as XLA knows them to turn.

    Attributes:
        always: what every device does.
        branches: what the heavier branch of every conditional adds.
    """

    always: int
    branches: list[int]


class Memory(NamedTuple):
    """Bytes of one device.

    Attributes:
        given: what the program is called with.
        in_place: how much of that its results take over.
        peak: all that it holds at a time.
    """

    given: int
    in_place: int
    peak: int


def memory_of(compiled: Any) -> Memory:
    """What the compiler has set aside for a program."""
    found = compiled.memory_analysis()
    given, in_place = found.argument_size_in_bytes, found.alias_size_in_bytes
    peak = given + found.output_size_in_bytes + found.temp_size_in_bytes - in_place
    return Memory(given, in_place, peak)


def messages(text: str) -> list[Message]:
    """All collective operations of a module."""
    module = _computations(text)
    calls = _calls(module)
    loops = {called for body in _loop_bodies(module) for called in _reachable(calls, body)}
    found = []
    for name, instructions in module.items():
        for instruction in instructions:
            kind = instruction.operation.removesuffix("-start")
            if kind not in _COLLECTIVES:
                continue
            shapes = instruction.shapes
            if instruction.operation == "collective-permute-start":
                shapes = shapes[1:2]  # of operand, result and what the hardware keeps
            for dtype, dims in shapes:
                size = math.prod(dims) * _width(dtype)
                found.append(Message(kind, dtype, size, name in loops))
    return found


def products(text: str) -> Products:
    """The matrix products of a module."""
    module = _computations(text)
    entry = re.search(r"^ENTRY %?([\w.\-]+)", text, re.MULTILINE)
    assert entry is not None
    branches: list[int] = []
    return Products(_multiply_adds(module, entry.group(1), branches), branches)


def loop_traffic(text: str) -> dict[str, int]:
    """Bytes that the loop with the most products reads and writes in a turn, by what they are for.

    Every instruction reads its operands and writes its result once, whatever a cache may spare;
    of the operand of a gather only what it takes is read.  Loops inside of the loop are left out.
    """
    module = _computations(text)
    calls = _calls(module)

    def count(body: str) -> int:
        return sum(_is_product(module, calls, one) for one in module[body])

    bodies = sorted(_loop_bodies(module), key=count)
    found = {"products": 0, "element by element": 0, "copies": 0, "gathers": 0}
    sizes: dict[str, int] = {}
    for one in module[bodies[-1]] if bodies else []:
        size = sum(math.prod(dims) * _width(dtype) for dtype, dims in one.shapes)
        sizes[one.name] = size
        if one.operation in _NO_TRAFFIC:
            continue
        operands = sum(sizes.get(name, 0) for name in _NAME.findall(one.rest.split("), ")[0]))
        done = _operations(module, calls, one)
        if done & _PRODUCTS:
            found["products"] += size + operands
        elif "gather" in done:
            found["gathers"] += 2 * size
        else:
            found["copies" if done == {"copy"} else "element by element"] += size + operands
    return found


def independent_products(text: str) -> list[int]:
    """How many products of its loop each message between stages could travel behind.

    Those that neither need the message nor are needed by it; the products of a stack of layers
    count once, and so do those of a conditional.
    """
    module = _computations(text)
    calls = _calls(module)
    counts = []
    for body in sorted(_loop_bodies(module)):
        names = {one.name for one in module[body]}
        needs = {one.name: names.intersection(_NAME.findall(one.rest)) for one in module[body]}
        products = [one.name for one in module[body] if _is_product(module, calls, one)]
        for one in module[body]:
            if one.operation.removesuffix("-start") == "collective-permute":
                needed = _reachable(needs, one.name)
                counts.append(
                    sum(
                        name not in needed and one.name not in _reachable(needs, name)
                        for name in products
                    )
                )
    return counts


def scheduled_products(text: str) -> list[int]:
    """How many products of its loop are scheduled between a message's start and its end.

    Empty where the backend does not schedule messages, as that of CPUs.
    """
    module = _computations(text)
    calls = _calls(module)
    counts = []
    for body in sorted(_loop_bodies(module)):
        open_since: dict[str, int] = {}
        done = 0
        for one in module[body]:
            if one.operation == "collective-permute-start":
                open_since[one.name] = done
            elif one.operation == "collective-permute-done":
                (started,) = (name for name in _NAME.findall(one.rest) if name in open_since)
                counts.append(done - open_since[started])
            done += _is_product(module, calls, one)
    return counts


def _operations(module: Module, calls: Graph, instruction: Instruction) -> set[str]:
    """What an instruction does: itself, fused with others, or in a branch."""
    names = [name for name in _NAME.findall(instruction.rest) if name in module]
    inner = [one for name in names for called in _reachable(calls, name) for one in module[called]]
    return {one.operation for one in (instruction, *inner)}


def _is_product(module: Module, calls: Graph, instruction: Instruction) -> bool:
    """Whether it multiplies matrices."""
    return bool(_operations(module, calls, instruction) & _PRODUCTS)


def _multiply_adds(module: Module, name: str, branches: list[int]) -> int:
    total = 0
    shapes = {one.name: one.shapes for one in module[name]}
    for instruction in module[name]:
        if instruction.operation == "dot":
            left = re.match(r"[^%]*%([\w.\-]+)", instruction.rest)
            contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.rest)
            assert left is not None
            assert contracted is not None
            dims = shapes[left.group(1)][0][1]
            over = math.prod(dims[int(axis)] for axis in contracted.group(1).split(","))
            total += math.prod(instruction.shapes[0][1]) * over
        elif instruction.operation == "conditional":
            found = _BRANCHES.search(instruction.rest)
            assert found is not None
            names = [one for one in found.groups()[:2] if one] or re.findall(
                r"[\w.\-]+", found.group(3)
            )
            nested: list[int] = []
            branches.append(max(_multiply_adds(module, one, nested) for one in names))
            branches.extend(nested)
        else:
            turns = _TURNS.search(instruction.rest)
            often = int(turns.group(1)) if turns else 1
            for called in _CALLED.findall(instruction.rest):
                inner: list[int] = []
                total += often * _multiply_adds(module, called, inner)
                branches.extend(often * heaviest for heaviest in inner)
    return total


def _computations(text: str) -> Module:
    module: Module = {}
    name = ""
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            name = header.group(1)
            module[name] = []
        elif found := _INSTRUCTION.match(line):
            one, result, operation, rest = found.groups()
            shapes = [
                (dtype, tuple(int(dim) for dim in dims.split(",") if dim))
                for dtype, dims in _SHAPE.findall(result)
            ]
            module[name].append(Instruction(one, shapes, operation, rest))
    return module


def _loop_bodies(module: Module) -> set[str]:
    return {
        body
        for instructions in module.values()
        for one in instructions
        if one.operation == "while"
        for body in re.findall(r"body=%?([\w.\-]+)", one.rest)
    }


def _calls(module: Module) -> Graph:
    """Which computations each computation names."""
    return {
        name: {other for one in instructions for other in _WORD.findall(one.rest)} & module.keys()
        for name, instructions in module.items()
    }


def _reachable(edges: Graph, start: str) -> set[str]:
    found, waiting = {start}, [start]
    while waiting:
        new = edges[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def _width(dtype: str) -> int:
    """Bytes of one element."""
    if dtype == "pred":
        return 1
    bits = re.search(r"\d+", dtype)
    assert bits is not None
    return max(int(bits.group()) // 8, 1)
