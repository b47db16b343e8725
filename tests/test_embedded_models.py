"""The networks that ship with the package are as accurate, in golden's integers, as their page says."""

from pathlib import Path

import golden
from network.inputs import load_inputs, load_labels
from network.load import load

MODELS = Path(__file__).resolve().parents[1] / "intaglio" / "models"


def test_digits_sbnq4():
    network = load(MODELS / "digits_sbnq4.txt")
    inputs = load_inputs(MODELS / "digits_test.npz", network)
    labels = load_labels(MODELS / "digits_test.npz", 400)
    assert inputs["input"].shape == (400, 8, 8, 1)
    assert set(labels) == set(range(10))
    result = golden.run(network, inputs)
    assert not any(result.overflows.values())
    right = int((result.tensors["fc1"].argmax(1) == labels).sum())
    page = (MODELS / "README.md").read_text()
    assert f"**{right / 4:.2f} %** ({right} right)" in page
    assert f"{network.macs:,} MACs" in page
