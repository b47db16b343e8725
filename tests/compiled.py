"""A network, compiled, interpreted and compared with golden."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from intaglio.compiler import Program, compile_network
from intaglio.golden import model
from intaglio.network import Network
from intaglio.spec.commands import Opcode
from intaglio.spec.config import AcceleratorConfig
from intaglio.spec.limits import MARKS
from tests.interpreter import Machine, check_order
from tests.networks import draw


def commands(program: Program) -> list[tuple[Opcode, dict[str, int]]]:
    return [program.command(index) for index in range(program.command_count)]


def check(
    network: Network, config: AcceleratorConfig, seed: int = 0, runs: int = 2, base: int = 0
) -> Program:
    """Compile, run in several orders, compare every tensor with golden, prove the order; the program."""
    rng = np.random.default_rng(seed)
    program = compile_network(network, config, base)
    inputs = {
        name: draw(rng, network.tensors[name].type, (1, *network.tensors[name].shape))
        for name in network.inputs
    }
    expected = model.run(network, inputs).tensors
    for run in range(runs):
        machine = Machine(program, config, {k: v[0] for k, v in inputs.items()}, rng).run()
        _check_tensors(network, machine, expected)
        marked = [i for i in machine.completed if program.command(i)[1]["mark"]]
        assert marked == sorted(marked)
        assert len({layer.mark for layer in program.layers} - {-1}) == len(marked) <= MARKS
        if run == 0:
            check_order(program, machine)
    return program


def _check_tensors(network: Network, machine: Machine, expected: dict[str, npt.NDArray]) -> None:
    """Every tensor that a layer writes, on chip or in memory, and the outputs."""
    program = machine.program
    held = [probe.tensor for probe in program.probes] + [binding.tensor for binding in program.spills]
    assert sorted(held) == sorted(layer.output for layer in network.layers)
    spilled = {binding.tensor: binding for binding in program.spills}

    def in_memory(binding):
        return binding.unpack(machine.memory[binding.address :][: binding.bytes][None])[0]

    for layer in network.layers:
        name = layer.output
        found = in_memory(spilled[name]) if name in spilled else machine.probes[name]
        np.testing.assert_array_equal(found, expected[name][0], f"{layer.op} {layer.name}")
    for binding in program.outputs:
        np.testing.assert_array_equal(in_memory(binding), expected[binding.tensor][0], binding.tensor)
