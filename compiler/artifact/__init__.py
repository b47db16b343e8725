"""An artifact: a compiled network as one file, for a driver or another run; its layout is `intaglio.spec.artifact`."""

from intaglio.compiler.artifact.c_sources import c_sources, identifier
from intaglio.compiler.artifact.describe import described
from intaglio.compiler.artifact.model import (
    Artifact,
    SelfTest,
    StoredTensor,
    artifact_of,
    compared_with_tests,
    crc_of,
    self_tests,
    storing_layers,
)
from intaglio.compiler.artifact.reader import decode, recognised
from intaglio.compiler.artifact.writer import encode

__all__ = [
    "Artifact",
    "SelfTest",
    "StoredTensor",
    "artifact_of",
    "c_sources",
    "compared_with_tests",
    "crc_of",
    "decode",
    "described",
    "encode",
    "identifier",
    "recognised",
    "self_tests",
    "storing_layers",
]
