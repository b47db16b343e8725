# amaranth: UnusedElaboratable=no
"""The cost model: what it predicts is what the machine takes, cycle counts of the RTL beside it."""

import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from bench import networks
from intaglio.compiler import Program, compile_network, estimate_network
from intaglio.compiler.cost import bus, timing
from intaglio.compiler.cost.events import Clock, Flow, Resource
from intaglio.compiler.cost.ports import share
from intaglio.demo import MODELS
from intaglio.hdl import machine as hdl_machine
from intaglio.hdl.bus.axi_read import ReadMaster
from intaglio.hdl.engines.affine_lanes import AFFINE_LATENCY
from intaglio.hdl.engines.binary_arithmetic import BinaryArithmetic
from intaglio.hdl.engines.dispatcher import FETCH_COMMANDS
from intaglio.hdl.storage.credits import depth_to_cover
from intaglio.hdl.storage.fifo import FIFO_LATENCY
from intaglio.hdl.storage.scratchpad import READ_LATENCY
from intaglio.hdl.units.array import MacArray
from intaglio.hdl.units.llsq import LLSQ
from intaglio.hdl.units.sbnq import SBNQ
from intaglio.network import Network, NetworkError
from intaglio.network.load import load
from intaglio.sim.simulator.build import build
from intaglio.sim.simulator.harness import MEMORY_LATENCY_CYCLES
from intaglio.sim.simulator.machine import Simulator
from intaglio.sim.simulator.run import run
from intaglio.spec.config import AcceleratorConfig
from tests.networks import draw, machine_of, wild_network
from tests.networks_int8 import int8_machine, random_int8_network

TINY = Path(__file__).with_name("tiny.toml")
TOTAL, LAYER = 0.02, 0.05
"""How far a prediction may be off, of a network and of a layer of LAYER_CYCLES or more."""
LAYER_CYCLES = 1000


def inference(network: Network, program: Program, config: AcceleratorConfig):
    """One on the RTL, of random inputs: cycles do not depend on them."""
    rng = np.random.default_rng(0)
    inputs = {
        name: draw(rng, network.tensors[name].type, network.tensors[name].shape) for name in network.inputs
    }
    with Simulator(build(config), config, program) as simulator:
        return simulator.infer(inputs)


def hold(network: Network, config: AcceleratorConfig) -> None:
    program = compile_network(network, config)
    measured, predicted = inference(network, program, config), estimate_network(network, config)
    assert predicted.cycles == pytest.approx(measured.cycles, rel=TOTAL)
    assert sum(predicted.layer_cycles) == predicted.cycles
    assert predicted.layers == program.layers
    for layer, cycles, counted in zip(
        program.layers, predicted.layer_cycles, measured.layer_cycles, strict=True
    ):
        if counted >= LAYER_CYCLES:
            assert cycles == pytest.approx(counted, rel=LAYER), layer.name
    assert predicted.read_bytes == measured.counters["read_beats"] * config.bus_bytes
    assert predicted.write_bytes == measured.counters["write_beats"] * config.bus_bytes
    assert predicted.memory_bytes == program.memory_bytes


@pytest.mark.parametrize(
    ("model", "config"),
    [
        ("digits_sbnq4.txt", TINY),
        ("digits_sbnq4.txt", "sbnq8x8"),
        ("digits_llsq2.npz", "llsq32x7_w2"),
        ("digits_affine.npz", "affine8x8"),
    ],
    ids=["sbnq on tiny", "sbnq", "llsq", "affine"],
)
def test_predictions_of_embedded_networks_hold(model, config):
    hold(load(MODELS / model), AcceleratorConfig.load(config))


def test_the_prediction_of_a_generated_network_holds(tmp_path):
    hold(load(networks.write("mobilenet_v1_025_96", tmp_path)), AcceleratorConfig.load("affine8x8"))


@pytest.mark.parametrize(
    "file",
    [
        "mlperf_tiny/pretrainedResnet_quant.tflite",
        "mlperf_tiny/kws_ref_model.tflite",
        "public/person_detect.tflite",
    ],
)
def test_predictions_of_public_networks_hold(shared, file):
    hold(load(shared / "models" / file), AcceleratorConfig.load("affine8x8"))


MACHINES = {
    "sbnq": machine_of(rows=5, columns=3, activation_types=("uint8", "int8"), weight_type="int8",
                       accumulator_bits=20, accumulator_depth=16, scratchpad_bytes=4096),
    "affine": int8_machine(rows=6, columns=3, accumulator_depth=32, scratchpad_bytes=8192, depthwise_taps=2,
                           bus_bits=128),
}  # fmt: skip


@pytest.mark.parametrize("machine", MACHINES)
def test_any_schedule_comes_to_an_end(machine):
    """And moves on the bus what the functional backend counts, which knows no time."""
    config = MACHINES[machine]
    elements = config.scratchpad_elements // 4
    ended = 0
    for seed in range(20):
        network = (
            random_int8_network(seed, elements=elements) if config.affine else wild_network(seed, config)
        )
        try:
            program = compile_network(network, config)
        except NetworkError:
            continue
        predicted = estimate_network(network, config)
        inputs = {
            name: np.zeros((1, *network.tensors[name].shape), network.tensors[name].type.dtype)
            for name in network.inputs
        }
        counters = run(network, program, config, inputs, check=False, backend="functional").counters
        assert predicted.read_bytes == counters["read_beats"] * config.bus_bytes
        assert predicted.write_bytes == counters["write_beats"] * config.bus_bytes
        assert sum(predicted.layer_cycles) == predicted.cycles
        assert min(predicted.layer_cycles) >= 0
        ended += 1
    assert ended >= 12


def test_latencies_are_those_of_the_hardware():
    assert timing.MEMORY_LATENCY == MEMORY_LATENCY_CYCLES
    assert timing.FETCH_COMMANDS == FETCH_COMMANDS
    assert timing.BURST_BEATS == hdl_machine._BURST_BEATS
    assert ReadMaster(1).outstanding == timing.OUTSTANDING
    assert (timing.READ, timing.FIFO) == (READ_LATENCY, FIFO_LATENCY)
    assert depth_to_cover(READ_LATENCY + FIFO_LATENCY) == timing.CREDITS
    assert (BinaryArithmetic(1).latency, AFFINE_LATENCY) == (timing.OPERANDS, timing.LANES)
    # SBNQ's limits; the choice of a total, to which the affine rescale adds its bias in a cycle of its own.
    assert {
        "sbnq": SBNQ(24, 8, 24).latency + 1,
        "affine": AFFINE_LATENCY + 2,
        "llsq": LLSQ(16, 8).latency,
    } == timing.RESCALES


@pytest.mark.parametrize("rows", [1, 2, 8, 9, 16, 32, 64])
def test_the_array_is_as_long_as_the_hardwares(rows):
    config = dataclasses.replace(MACHINES["sbnq"], rows=rows)
    array = MacArray(rows, 1, config.operand, config.weight)
    # The stored total, and the count of complete commands, come two cycles later.
    assert timing.Timing.of(config).sums == array.latency + 2


def finishing(*flows: Flow) -> list[tuple[float, int]]:
    """When each of some flows, by number, ends if all begin at once."""
    clock, ends = Clock(share), list[tuple[float, int]]()
    for number, flow in enumerate(flows):
        flow.finished = partial(lambda number: ends.append((round(clock.now, 3), number)), number)
        clock.flow(flow)
    clock.run()
    return ends


def nothing() -> None:
    pass


def test_readers_share_the_port():
    assert finishing(Flow(10, nothing, reads=1.0)) == [(10, 0)]
    assert finishing(Flow(10, nothing, reads=1.0), Flow(10, nothing, reads=1.0)) == [(20, 0), (20, 1)]
    assert finishing(Flow(30, nothing, reads=1.0), Flow(10, nothing, reads=1.0)) == [(20, 1), (40, 0)]
    # A reader of few vectors takes but what it needs.
    assert finishing(Flow(30, nothing, reads=1.0), Flow(40, nothing, reads=0.25)) == [(40, 0), (40, 1)]


def test_what_is_read_ahead_goes_on_when_the_port_is_taken():
    alone = Flow(10, nothing, reads=1.0, ahead=8, fastest=2.0)
    assert finishing(alone) == [(10, 0)]
    lanes = Resource(users=1)
    clock, ends = Clock(share), list[float]()
    clock.flow(Flow(16, lambda: ends.append(clock.now), reads=1.0, ahead=8, behind=lanes))
    clock.flow(Flow(22, lambda: ends.append(clock.now), reads=1.0))

    def free() -> None:
        lanes.users = 0
        clock.reshare()

    # Up to cycle 16 each reads eight, up to 20 the other four; then the first uses one a cycle, of which half are read.
    clock.after(20, free)
    clock.run()
    assert ends == [pytest.approx(36), pytest.approx(38)]


def test_bursts_end_at_their_longest_and_at_4_kib():
    assert list(bus.bursts_of(0, 8 * 70, 8)) == [32, 32, 6]
    assert list(bus.bursts_of(4096 - 8 * 5, 8 * 20, 8)) == [5, 15]
    assert list(bus.bursts_of(3, 6, 8)) == [2]
    assert list(bus.bursts_of(4095, 2, 8)) == [1, 1]
    assert list(bus.bursts_of(0, 16 * 70, 16)) == [32, 32, 6]
    assert list(bus.bursts_of(4096 - 16 * 5, 16 * 20, 16)) == [5, 15]
    assert list(bus.bursts_of(10, 7, 16)) == [2]
