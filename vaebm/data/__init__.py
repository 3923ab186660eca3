"""Data sets: what is modelled? Each family has its settings, whose `load` gives a `DataSet` of its splits."""

from typing import Annotated, get_args

from pydantic import Field

from vaebm.data.celeba import CelebA64Settings, CelebAHQ256Settings
from vaebm.data.chairs import ChairsSettings
from vaebm.data.cifar import CIFAR10Settings, CIFAR100Settings
from vaebm.data.digits import DigitsSettings
from vaebm.data.folder import FolderSettings, name_of
from vaebm.data.gaussians import GaussiansSettings
from vaebm.data.image_source import ARCHIVES
from vaebm.data.lsun import LSUNChurch64Settings
from vaebm.data.mnist import FashionMNISTSettings, MNISTSettings
from vaebm.data.modality import IMAGES, POINTS, Modality, modality_of
from vaebm.data.splits import SATURATED, Batch, DataSet, DataSettings, Split, Truth
from vaebm.data.sprites import SpritesSettings
from vaebm.data.stacked_mnist import StackedMNISTSettings
from vaebm.data.stored import StoredSettings
from vaebm.data.svhn import SVHNSettings
from vaebm.data.transforms import to_display, to_model, to_uint8

Data = Annotated[
    GaussiansSettings
    | DigitsSettings
    | MNISTSettings
    | FashionMNISTSettings
    | StackedMNISTSettings
    | CIFAR10Settings
    | CIFAR100Settings
    | SVHNSettings
    | SpritesSettings
    | ChairsSettings
    | CelebA64Settings
    | CelebAHQ256Settings
    | LSUNChurch64Settings
    | FolderSettings,
    Field(discriminator="kind"),
]

KINDS: dict[str, type[DataSettings]] = {
    settings.model_fields["kind"].default: settings for settings in get_args(get_args(Data)[0])
}
"""Settings by the name that recipes and `vaebm data` call a set by."""

__all__ = [
    "ARCHIVES",
    "IMAGES",
    "KINDS",
    "POINTS",
    "SATURATED",
    "Batch",
    "CIFAR10Settings",
    "CIFAR100Settings",
    "CelebA64Settings",
    "CelebAHQ256Settings",
    "ChairsSettings",
    "Data",
    "DataSet",
    "DataSettings",
    "DigitsSettings",
    "FashionMNISTSettings",
    "FolderSettings",
    "GaussiansSettings",
    "LSUNChurch64Settings",
    "MNISTSettings",
    "Modality",
    "SVHNSettings",
    "Split",
    "SpritesSettings",
    "StackedMNISTSettings",
    "StoredSettings",
    "Truth",
    "modality_of",
    "name_of",
    "to_display",
    "to_model",
    "to_uint8",
]
