"""Data sets: what is modelled? Each family has its settings, whose `load` gives a `DataSet` of two splits."""

from typing import Annotated

from pydantic import Field

from vaebm.data.digits import DigitsSettings
from vaebm.data.folder import FolderSettings
from vaebm.data.gaussians import GaussiansSettings
from vaebm.data.splits import DataSet, DataSettings, Split, Truth
from vaebm.data.transforms import to_display, to_model, to_uint8

Data = Annotated[GaussiansSettings | DigitsSettings | FolderSettings, Field(discriminator="kind")]

__all__ = [
    "Data",
    "DataSet",
    "DataSettings",
    "DigitsSettings",
    "FolderSettings",
    "GaussiansSettings",
    "Split",
    "Truth",
    "to_display",
    "to_model",
    "to_uint8",
]
