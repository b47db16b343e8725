"""What makes layers of operators, one file a family.

A function takes the context, the operator, and its operands as `supported` says they are read; it adds layers, or
raises Refusal where it finds that it cannot.
"""
