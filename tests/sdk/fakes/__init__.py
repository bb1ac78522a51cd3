"""Backends that behave in one way each; a module's name says how. Python 3.7 and NumPy, like any backend."""
