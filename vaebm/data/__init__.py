"""Data sets: what is modelled? Each family has its settings, whose `load` gives a `DataSet` of its splits."""

from typing import Annotated

from pydantic import Field

from vaebm.data.cifar import CIFAR10Settings, CIFAR100Settings
from vaebm.data.digits import DigitsSettings
from vaebm.data.folder import FolderSettings
from vaebm.data.gaussians import GaussiansSettings
from vaebm.data.mnist import FashionMNISTSettings, MNISTSettings
from vaebm.data.splits import DataSet, DataSettings, Split, Truth
from vaebm.data.stacked_mnist import StackedMNISTSettings
from vaebm.data.transforms import to_display, to_model, to_uint8

Data = Annotated[
    GaussiansSettings
    | DigitsSettings
    | MNISTSettings
    | FashionMNISTSettings
    | StackedMNISTSettings
    | CIFAR10Settings
    | CIFAR100Settings
    | FolderSettings,
    Field(discriminator="kind"),
]

__all__ = [
    "CIFAR10Settings",
    "CIFAR100Settings",
    "Data",
    "DataSet",
    "DataSettings",
    "DigitsSettings",
    "FashionMNISTSettings",
    "FolderSettings",
    "GaussiansSettings",
    "MNISTSettings",
    "Split",
    "StackedMNISTSettings",
    "Truth",
    "to_display",
    "to_model",
    "to_uint8",
]
