"""An artifact as plain values: the JSON beside it, for people and for programs in other languages."""

from __future__ import annotations

from typing import Any

from intaglio.compiler.artifact.model import Artifact, StoredTensor
from intaglio.spec.artifact import ARTIFACT_VERSION
from intaglio.spec.regions import Region


def described(artifact: Artifact) -> dict[str, Any]:
    """All that the file says but for the image and the tests' inputs."""
    program = artifact.program
    return {
        "format": ARTIFACT_VERSION,
        "producer": artifact.producer,
        "network": program.network,
        "config": program.config,
        "fingerprint": f"{program.fingerprint:#010x}",
        "address_bits": artifact.address_bits,
        "commands": {"offset": program.command_offset, "count": program.command_count},
        "stores_layers": artifact.store_layers,
        "regions": [
            {
                "region": region.name,
                "rights": region.rights,
                "bytes": program.region_bytes.get(region, 0),
                "contents_bytes": len(program.image)
                if region is Region.PROGRAM
                else len(artifact.contents.get(region, b"")),
            }
            for region in Region
        ],
        "tensors": [_tensor(tensor) for tensor in artifact.stored],
        "layers": [
            {
                "name": layer.name,
                "op": layer.op,
                "mark": layer.mark,
                "macs": layer.macs,
                "tensor": None if tensor is None else artifact.stored[tensor].name,
            }
            for layer, tensor in zip(program.layers, artifact.layer_tensors, strict=True)
        ],
        "self_tests": [{"crcs": [f"{crc:#010x}" for crc in test.crcs]} for test in artifact.tests],
    }


def _tensor(tensor: StoredTensor) -> dict[str, Any]:
    binding = tensor.binding
    return {
        "name": tensor.name,
        "role": tensor.role.name.lower(),
        "shape": list(binding.shape),
        "type": str(binding.type),
        "edge": {"kind": tensor.edge[0].name.lower(), "bits": tensor.edge[1]},
        "digits": binding.digits,
        "element_bits": binding.element_bits,
        "region": binding.region.name,
        "offset": binding.offset,
        "bytes": binding.bytes,
        "scales": [{"scale": scale, "zero_point": zero_point} for scale, zero_point in tensor.scales],
        "axis": tensor.axis,
    }
