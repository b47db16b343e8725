"""The figures of the documentation, measured: `python -m bench`."""
