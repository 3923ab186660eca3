"""Data sets: what is modelled? Each family has its settings, whose `load` gives a `DataSet` of its splits."""

from vaebm.data.modality import IMAGES, POINTS, ROWS, Modality, modality_of
from vaebm.data.sets import KINDS, Data
from vaebm.data.sets.digits import DigitsSettings
from vaebm.data.sets.folder import FolderSettings
from vaebm.data.sets.plane import CheckerboardSettings, EightModesSettings, GaussiansSettings
from vaebm.data.sets.published import PublishedSettings
from vaebm.data.settings import DataSettings
from vaebm.data.splits import Batch, DataSet, ModesTruth, Split, Truth
from vaebm.data.transforms import to_display, to_model, to_uint8

__all__ = [
    "IMAGES",
    "KINDS",
    "POINTS",
    "ROWS",
    "Batch",
    "CheckerboardSettings",
    "Data",
    "DataSet",
    "DataSettings",
    "DigitsSettings",
    "EightModesSettings",
    "FolderSettings",
    "GaussiansSettings",
    "Modality",
    "ModesTruth",
    "PublishedSettings",
    "Split",
    "Truth",
    "modality_of",
    "to_display",
    "to_model",
    "to_uint8",
]
