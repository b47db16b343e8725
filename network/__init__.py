"""What a quantized network is: layers, integer tensors, rescales with named rounding; one importer a format."""

from network.errors import NetworkError
from network.graph import (
    AffineRescale,
    Conv2D,
    FullyConnected,
    LlsqRescale,
    MaxPool2D,
    Network,
    PowerOfTwoRescale,
    Rounding,
    SbnqRescale,
    Tensor,
    TensorType,
)

__all__ = [
    "AffineRescale",
    "Conv2D",
    "FullyConnected",
    "LlsqRescale",
    "MaxPool2D",
    "Network",
    "NetworkError",
    "PowerOfTwoRescale",
    "Rounding",
    "SbnqRescale",
    "Tensor",
    "TensorType",
]
