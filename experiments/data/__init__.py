"""Datasets as arrays: `load(DataConfig(name="mnist"))`.

`digits` comes with the code. The others are read from a prepared directory of tensorflow-datasets,
prepared from their original archives, or downloaded; see `load`. A file of the user's is a table or
has arrays; see `own` and `tables`.
"""

from typing import get_args

from experiments.data.catalogue import Name
from experiments.data.config import DataConfig
from experiments.data.dataset import DataError, Dataset
from experiments.data.loading import load

NAMES: tuple[str, ...] = get_args(Name)

__all__ = ["NAMES", "DataConfig", "DataError", "Dataset", "load"]
