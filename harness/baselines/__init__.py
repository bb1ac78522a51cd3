"""Published numbers with the place where they were read: cells, sources, targets, deviations, errata.

The lint is imported by name (`harness.baselines.arithmetic`): only those who run it pay for it.
"""

from harness.baselines.registry import Baselines, load
from harness.baselines.rows import Cell, Deviation, Target

__all__ = ["Baselines", "Cell", "Deviation", "Target", "load"]
