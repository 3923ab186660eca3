"""The families of data sets, one file each: settings whose `load` gives a `DataSet`."""

from typing import Annotated, get_args

from pydantic import Field

from vaebm.data.sets.celeba import CelebA64Settings, CelebAHQ256Settings
from vaebm.data.sets.chairs import ChairsSettings
from vaebm.data.sets.cifar import CIFAR10Settings, CIFAR100Settings
from vaebm.data.sets.digits import DigitsSettings
from vaebm.data.sets.dsprites import DSpritesSettings
from vaebm.data.sets.folder import FolderSettings
from vaebm.data.sets.given import GivenSettings
from vaebm.data.sets.lsun import LSUNChurch64Settings
from vaebm.data.sets.mnist import FashionMNISTSettings, MNISTSettings, StackedMNISTSettings
from vaebm.data.sets.plane import CheckerboardSettings, EightModesSettings, GaussiansSettings
from vaebm.data.sets.sprites import SpritesSettings
from vaebm.data.sets.svhn import SVHNSettings
from vaebm.data.sets.table import TableSettings
from vaebm.data.settings import DataSettings

Data = Annotated[
    GaussiansSettings
    | EightModesSettings
    | CheckerboardSettings
    | DigitsSettings
    | MNISTSettings
    | FashionMNISTSettings
    | StackedMNISTSettings
    | CIFAR10Settings
    | CIFAR100Settings
    | SVHNSettings
    | DSpritesSettings
    | SpritesSettings
    | ChairsSettings
    | CelebA64Settings
    | CelebAHQ256Settings
    | LSUNChurch64Settings
    | FolderSettings
    | TableSettings
    | GivenSettings,
    Field(discriminator="kind"),
]

KINDS: dict[str, type[DataSettings]] = {
    settings.model_fields["kind"].default: settings for settings in get_args(get_args(Data)[0])
}
"""Settings by the name that recipes and `vaebm data` call a set by."""
