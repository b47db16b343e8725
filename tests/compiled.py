"""A network, compiled, interpreted and compared with golden."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from intaglio.compiler import Program, compile_network
from intaglio.golden import model
from intaglio.network import Network
from intaglio.spec.commands import FORMATS, Engine, Opcode
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.limits import MARKS
from intaglio.spec.regions import Region
from tests.interpreter import Machine, check_order
from tests.networks import draw


def commands(program: Program) -> list[tuple[Opcode, dict[str, int]]]:
    return [program.command(index) for index in range(program.command_count)]


def check(network: Network, config: AcceleratorConfig, seed: int = 0, runs: int = 2) -> Program:
    """Compile, run in several orders, compare every tensor with golden, prove the order; the program."""
    rng = np.random.default_rng(seed)
    program = compile_network(network, config)
    inputs = {
        name: draw(rng, network.tensors[name].type, (1, *network.tensors[name].shape))
        for name in network.inputs
    }
    expected = model.run(network, inputs).tensors
    for run in range(runs):
        machine = Machine(program, config, {k: v[0] for k, v in inputs.items()}, rng).run()
        _check_tensors(network, machine, expected)
        _check_marks(network, machine)
        if run == 0:
            check_order(program, machine)
    _check_regions(program)
    return program


def _check_regions(program: Program) -> None:
    """Each region is used as its kind allows, and what a program asks for of it."""
    used = set()
    for opcode, values in commands(program):
        if "region" in values:
            region = Region(values["region"])
            assert region.writable if opcode is Opcode.STORE else region.readable
            used.add(region)
    asked = {region for region, size in program.region_bytes.items() if size}
    assert used <= asked <= used | {Region.PROGRAM, Region.INPUT}
    assert len(program.image) == program.region_bytes[Region.PROGRAM]
    assert {binding.region for binding in program.inputs} == {Region.INPUT}
    assert {binding.region for binding in program.outputs} == {Region.OUTPUT}


def _check_marks(network: Network, machine: Machine) -> None:
    """Time stamps are taken in the order of their numbers, each is some layer's, and by then the layer is complete."""
    program = machine.program
    place = {index: at for at, index in enumerate(machine.completed)}
    marked = [index for index in machine.completed if program.command(index)[1]["mark"]]
    assert marked == sorted(marked)
    assert sorted({layer.mark for layer in program.layers} - {-1}) == list(range(len(marked)))
    assert len(marked) <= MARKS
    numbers = dict.fromkeys(Engine, 0)
    completes: dict[tuple[Engine, int], int] = {}
    for index, (opcode, _) in enumerate(commands(program)):
        engine = FORMATS[opcode].engine
        numbers[engine] += 1
        completes[engine, numbers[engine]] = place[index]
    whole = {probe.tensor: completes[probe.engine, probe.sequence] for probe in program.probes}
    for layer, info in zip(network.layers, program.layers, strict=True):
        if info.mark >= 0:
            assert whole.get(layer.output, 0) <= place[marked[info.mark]], layer.name


def _check_tensors(network: Network, machine: Machine, expected: dict[str, npt.NDArray]) -> None:
    """Every tensor that a layer writes, on chip or in memory, and the outputs."""
    program = machine.program
    held = [probe.tensor for probe in program.probes] + [binding.tensor for binding in program.spills]
    assert sorted(held) == sorted(layer.output for layer in network.layers)
    spilled = {binding.tensor: binding for binding in program.spills}

    def in_memory(binding):
        return binding.unpack(machine.memory[machine.place(binding)][None])[0]

    for layer in network.layers:
        name = layer.output
        found = in_memory(spilled[name]) if name in spilled else machine.probes[name]
        np.testing.assert_array_equal(found, expected[name][0], f"{layer.op} {layer.name}")
    for binding in program.outputs:
        np.testing.assert_array_equal(in_memory(binding), expected[binding.tensor][0], binding.tensor)
