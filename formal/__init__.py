"""Proofs, for every input, that the arithmetic units equal their definitions."""
