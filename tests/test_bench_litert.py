"""The speed beside LiteRT's: what is measured is the same computation, and what cannot be measured is said."""

import importlib.util

import numpy as np
import pytest
from rich.console import Console

from bench import litert
from tests import tflite_cases, tflite_oracles


@pytest.fixture
def console() -> Console:
    return Console(record=True, width=200)


def test_a_line_where_litert_is_not_installed(console, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    litert.show(console)
    assert "skipped, LiteRT is not installed (pip install 'intaglio[oracles]')" in console.export_text()


@pytest.mark.skipif("litert" in tflite_oracles.missing(), reason="LiteRT is not installed")
class TestWithLitert:
    def test_a_line_where_there_is_no_network(self, console, monkeypatch, tmp_path) -> None:
        monkeypatch.setattr(litert, "NETWORKS", tmp_path)
        litert.show(console)
        assert "skipped, there is no .tflite file" in console.export_text()

    def test_a_row_a_network(self, console, monkeypatch, tmp_path) -> None:
        path = tmp_path / "small.tflite"
        path.write_bytes(tflite_cases.small_network(1, True).bytes())
        litert.show(console, [path])
        (row,) = (line for line in console.export_text().splitlines() if "small" in line)
        figures = [cell.strip() for cell in row.split("│")[2:-1]]
        assert len(figures) == 4
        assert all(float(figure.replace(",", "")) > 0 for figure in figures)

    def test_other_results_are_not_compared_in_speed(self, monkeypatch, tmp_path) -> None:
        path = tmp_path / "small.tflite"
        path.write_bytes(tflite_cases.small_network(1, True).bytes())
        other = tflite_cases.small_network(1, True)
        other.tensors[7].data = np.full(5, 99999, np.int32)  # another bias
        wrong = litert.tflite.loads(other.bytes())
        monkeypatch.setattr(litert.tflite, "load", lambda path: wrong)
        with pytest.raises(RuntimeError, match="golden's t8 is not LiteRT's"):
            litert.measure(path)
