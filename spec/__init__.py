"""The contract between compiler, machine, simulator and driver: every layout and every limit once, in plain Python.

`config` (the machine), `operand` (types of activations and weights), `commands` (opcodes and their fields), `records`
(the rescale parameters in the weight stream), `registers` (with counters and causes of a stop), `limits`.
No arithmetic, and nothing imported of ours.
"""
