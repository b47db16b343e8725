"""The text export of IntegerNet, the SBNQ authors' own training code.

Ref: Guo, Wang, Cui, "Integer-Only Neural Network Quantization Scheme Based on Shift-Batch-Normalization" [sbnq].

One block a layer, each ended by an empty line; every line of numbers is one line::

    CONV CO 16 CI 1 H 28 W 28       then CO*CI*k*k weights in O,I,H,W order; H and W are the input's
    FC CI 144 CO 128                then CI*CO weights in I,O order, the input flattened in C,H,W order
    UNSIGNEDQUAN C 16 H 28 W 28     then BIAS and SHIFT, C numbers each: ReLU(acc - bias) >> shift  [sbnq: eq. 19]
    SIGNEDQUAN C 10 H 1 W 1         likewise, without the ReLU                                      [sbnq: eq. 16]
    POOL C 16 H 28 W 28             max pooling 2x2, stride 2, floor; C, H and W are the input's

What the file leaves out is derived: the kernel is ``sqrt(count / (CO * CI))``, odd, its stride 1 and its padding
``(k - 1) / 2``, so a convolution keeps height and width. The number of bits N is not in the file at all.
"""

from intaglio.network.formats.integernet.reader import ACCUMULATOR_BITS, FORMAT, load, loads, recognised
from intaglio.network.formats.integernet.writer import dump, dumps

__all__ = ["ACCUMULATOR_BITS", "FORMAT", "dump", "dumps", "load", "loads", "recognised"]
