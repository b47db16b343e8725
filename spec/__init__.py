"""The contract between compiler, machine, simulator and driver: every layout and every limit once, in plain Python.

`config` (the machine), `operand` (types of activations and weights), `regions` (of memory, and what the machine may do
there), `commands` (opcodes and their fields), `records`
(the rescale parameters in the weight stream), `registers` (with counters and causes of a fault), `limits`,
`fingerprint` (what a program and a machine must have in common). Made from them: `tables` (of the documentation, which
`python -m intaglio.spec` writes) and `c_header`.
No arithmetic, and nothing imported of ours.
"""
