"""The project's own exchange format: one .npz of integer arrays and a JSON text (`docs/exchange.md`)."""

from intaglio.network.formats.exchange.format import FORMAT, MAX_BYTES, MAX_NAME, MAX_TEXT_BYTES, VERSION
from intaglio.network.formats.exchange.reader import loads, recognised
from intaglio.network.formats.exchange.writer import dump, dumps

__all__ = [
    "FORMAT",
    "MAX_BYTES",
    "MAX_NAME",
    "MAX_TEXT_BYTES",
    "VERSION",
    "dump",
    "dumps",
    "loads",
    "recognised",
]
