"""The table of backends: every name is a module, plug-ins add rows, and compilers get the files that they need."""

from harness.backends import registry
from harness.chips import CHIPS


def test_every_backend_of_a_chip_is_a_module():
    from importlib.util import find_spec

    for chip in CHIPS.values():
        for backend in chip.backends:
            assert find_spec(registry.module_of(backend)) is not None, f"{chip.name} names {backend}"
