"""Readings of a machine's load that were made up."""

from harness.run.other_load import Load


def loads(*shares):
    """Readings a second apart, on two cores of which others use these shares between two of them."""
    now = Load(100.0, 50.0, 10.0, 2)
    yield now
    for share in shares:
        now = Load(now.busy + 2 * share + 0.5, now.own + 0.5, now.clock + 1, 2)
        yield now
