"""What a raw collection or a DATASET holds, counted from its tables in seconds, or from its files too."""

from mammoprep.inventory.counts import NOT_STATED, Inventory, is_known
from mammoprep.inventory.figures import draw
from mammoprep.inventory.sources import inspect, is_dataset

__all__ = ["NOT_STATED", "Inventory", "draw", "inspect", "is_dataset", "is_known"]
