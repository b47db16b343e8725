"""The networks that ship with the package are as accurate, in golden's integers, as their page says."""

import re

import pytest

from intaglio import golden
from intaglio.demo import MODELS, embedded
from intaglio.network.inputs import load_inputs, load_labels
from intaglio.network.load import load

PAGE = (MODELS / "README.md").read_text()


def test_the_page_has_all():
    assert {model.name for model, _ in embedded()} == set(re.findall(r"^\| `(\S+)` \|", PAGE, re.M))


@pytest.mark.parametrize(("model", "images"), list(embedded()), ids=lambda path: path.stem)
def test_its_figures(model, images):
    network = load(model)
    inputs = load_inputs(images, network)
    labels = load_labels(images, 400)
    assert inputs["input"].shape == (400, 8, 8, 1)
    assert set(labels) == set(range(10))
    result = golden.run(network, inputs)
    assert not any(result.overflows.values())
    right = int((result.tensors[network.outputs[0]].argmax(1) == labels).sum())
    (row,) = (line for line in PAGE.splitlines() if line.startswith(f"| `{model.name}` |"))
    assert f"**{right / 4:.2f} %** ({right} right)" in row
    assert f"{network.macs:,} MACs" in PAGE
