"""The hardware: operand types, arithmetic units, the machine and its Verilog.

Importing this package does not import Amaranth; its modules do, where they describe hardware.
"""
