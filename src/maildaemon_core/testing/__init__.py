"""Shipped for authors of plug-ins: memory twins of all ports, faults on purpose, strategies, conformance classes."""
