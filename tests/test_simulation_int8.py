"""int8 networks on simulated hardware: random graphs of every kind of layer, files of one operator, MLPerf Tiny's.

Every element of every tensor is compared with golden's, which `test_tflite_oracles.py` compares with the runtimes'.
"""

import numpy as np
import pytest

from bench import networks
from intaglio import golden
from intaglio.compiler import compile_network
from intaglio.network import NetworkError
from intaglio.network.inputs import load_inputs
from intaglio.network.load import load
from intaglio.sim.simulator import run as running
from intaglio.sim.simulator.build import build
from intaglio.sim.simulator.machine import Simulator
from intaglio.spec.config import AcceleratorConfig
from tests import tflite_cases
from tests.networks import draw
from tests.networks_int8 import int8_machine, random_int8_network

MACHINES = {
    "tiny": int8_machine(
        rows=4, columns=4, accumulator_depth=16, scratchpad_bytes=4096, depthwise_taps=2, line_buffer_rows=1,
        line_buffer_columns=16,
    ),
    "odd": int8_machine(
        rows=6, columns=3, accumulator_depth=32, scratchpad_bytes=8192, depthwise_taps=2,
        rescales=("affine", "sbnq"), line_buffer_rows=2, line_buffer_columns=16, bus_bits=128,
    ),
    "no depthwise": int8_machine(
        rows=3, columns=8, rescale_lanes=2, accumulator_depth=16, scratchpad_bytes=16384, depthwise_taps=0,
        scratchpad_lanes=16,
    ),
}  # fmt: skip
LATENCIES_CYCLES = (32, 1, 97)
SEEDS, CHUNKS = 50, 5
LEAST_RUN = 0.6
"""Of the random networks: the others have a layer of which no part fits on such small machines."""


def differing(simulator, network, inputs):
    """Tensors that differ from golden's, on chip or as they were stored."""
    expected = golden.run(network, inputs).tensors
    found = simulator.infer({name: values[0] for name, values in inputs.items()})
    wrong = [name for name, values in found.tensors.items() if not np.array_equal(values, expected[name][0])]
    assert set(found.tensors) == {layer.output for layer in network.layers}
    wrong += [
        f"{name} stored"
        for name, values in found.outputs.items()
        if name in expected and not np.array_equal(values, expected[name][0])
    ]
    return wrong


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_networks_equal_golden(machine, chunk):
    config = MACHINES[machine]
    library = build(config)
    run = 0
    for seed in range(chunk, SEEDS, CHUNKS):
        network = random_int8_network(seed, elements=config.scratchpad_elements // 4)
        try:
            program = compile_network(network, config)
        except NetworkError:
            continue
        rng = np.random.default_rng(seed)
        inputs = {
            name: draw(rng, network.tensors[name].type, (1, *network.tensors[name].shape))
            for name in network.inputs
        }
        latency = LATENCIES_CYCLES[seed % len(LATENCIES_CYCLES)]
        with Simulator(library, config, program, latency=latency) as simulator:
            wrong = differing(simulator, network, inputs)
        assert not wrong or program.warnings, f"seed {seed}: {wrong}"
        run += 1
    assert run >= LEAST_RUN * SEEDS / CHUNKS


@pytest.mark.parametrize("kind", tflite_cases.CASES)
def test_files_of_one_operator_equal_golden(kind, tmp_path):
    """A tenth of those that golden is compared with the runtimes on."""
    config = MACHINES["odd"]
    library = build(config)
    run = 0
    for number, case in enumerate(tflite_cases.cases(kind)):
        if number % 10:
            continue
        file = tmp_path / f"{number}.tflite"
        file.write_bytes(case.content)
        try:
            network = load(file)
            program = compile_network(network, config)
        except NetworkError:
            continue
        inputs = {
            name: np.asarray(values)[:1].reshape(1, *network.tensors[name].shape)
            for name, values in zip(network.inputs, case.inputs, strict=True)
        }
        with Simulator(library, config, program) as simulator:
            wrong = differing(simulator, network, inputs)
        # LiteRT's fully connected layers round a float64 product: the compiler names those that it cannot follow.
        assert not wrong or program.warnings, f"{case.name}: {wrong}"
        run += 1
    assert run >= 3


@pytest.mark.parametrize("config", ["affine8x8"])
@pytest.mark.parametrize(
    ("file", "cycles"), [("pretrainedResnet_quant.tflite", 220_000), ("kws_ref_model.tflite", 72_000)]
)
def test_mlperf_tiny(shared, config, file, cycles):
    network = load(shared / "models" / "mlperf_tiny" / file)
    (name,) = network.inputs
    if "Resnet" in file:
        images = load_inputs(shared / "data" / "cifar10" / "test_200.npz", network)[name][:8]
    else:
        images = draw(np.random.default_rng(0), network.tensors[name].type, (8, *network.tensors[name].shape))
    accelerator = AcceleratorConfig.load(config)
    program = compile_network(network, accelerator)
    result = running.run(network, program, accelerator, {name: images})
    assert result.mismatches == 0
    assert result.tensors == len(network.layers)
    assert result.cycles <= cycles


def test_what_does_not_fit_on_chip(tmp_path):
    """224 x 224 x 3 and a 1 x 1 convolution to 1280 channels, on the smallest scratchpad that ships for int8."""
    network = load(networks.write("wide224", tmp_path))
    config = AcceleratorConfig.load("affine8x8")
    program = compile_network(network, config)
    assert program.spills
    (name,) = network.inputs
    image = draw(np.random.default_rng(1), network.tensors[name].type, (1, *network.tensors[name].shape))
    with Simulator(build(config), config, program) as simulator:
        assert not differing(simulator, network, {name: image})


def test_shipped_configurations_keep_to_their_memory():
    assert sum(AcceleratorConfig.load("affine8x8").on_chip_bytes.values()) <= 128 << 10
    assert sum(AcceleratorConfig.load("affine16x16").on_chip_bytes.values()) <= 256 << 10
