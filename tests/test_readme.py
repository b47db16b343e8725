"""The README says what is so."""

import re
from pathlib import Path

from amaranth.hdl import Fragment

from intaglio.hdl.catalogue import units
from intaglio.spec.config import AcceleratorConfig

TEXT = (Path(__file__).parent.parent / "README.md").read_text()


def test_every_unit_is_in_the_table_with_its_latency():
    rows = re.findall(r"^\| `hdl\.\w+\.(\w+)` \|[^|]*\|[^|]*\| ([^|]*) \|", TEXT, re.M)
    # "3", "3 (1…8, a parameter)", "3 (8 × 8), 4 (32 × 7)"
    stated = {unit: set(map(int, re.findall(r"(\d+)(?: \(|$)", latency))) for unit, latency in rows}
    for name, make in units().items():
        unit = make()
        Fragment.get(unit, None)  # a component that is never elaborated is one that Amaranth warns of
        assert unit.latency in stated[type(unit).__name__], name


def test_every_configuration_is_in_the_table():
    assert set(re.findall(r"^\| `(\w+)` \| \d+ × \d+ \|", TEXT, re.M)) == set(AcceleratorConfig.names())
