"""Data sets: what is modelled? Each family has its settings, whose `load` gives a `DataSet` of its splits."""

from vaebm.data.modality import IMAGES, POINTS, Modality, modality_of
from vaebm.data.sets import KINDS, Data
from vaebm.data.sets.digits import DigitsSettings
from vaebm.data.sets.folder import FolderSettings
from vaebm.data.sets.gaussians import GaussiansSettings
from vaebm.data.sets.published import PublishedSettings
from vaebm.data.settings import DataSettings
from vaebm.data.splits import Batch, DataSet, Split, Truth
from vaebm.data.transforms import to_display, to_model, to_uint8

__all__ = [
    "IMAGES",
    "KINDS",
    "POINTS",
    "Batch",
    "Data",
    "DataSet",
    "DataSettings",
    "DigitsSettings",
    "FolderSettings",
    "GaussiansSettings",
    "Modality",
    "PublishedSettings",
    "Split",
    "Truth",
    "modality_of",
    "to_display",
    "to_model",
    "to_uint8",
]
