"""Training of the embedded networks with PyTorch, the optional extra ``train``; nothing else here imports it."""
