"""Sets that are prepared once (`vaebm data prepare NAME --from FOLDER`) and then read from their shards."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path, PurePosixPath
from typing import ClassVar

from vaebm.data.download import Published, check
from vaebm.data.image_source import FolderSource, ImageSource, open_source
from vaebm.data.plan import Plan
from vaebm.data.shards import Index, Shards, is_prepared, read_array, read_index
from vaebm.data.splits import EIGHT_BITS, DataSet, ImageSettings, Split
from vaebm.data.stored import StoredSettings
from vaebm.errors import InputError
from vaebm.progress import Progress

PREPARED = "prepared"
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm"}


class PreparedSettings(StoredSettings):
    """What recipes may say of a published set that has to be prepared."""

    needed: ClassVar[tuple[Published, ...]]

    @property
    def prepared(self) -> Path:
        """The folder of the shards: ROOT/NAME/prepared, or `root` itself where that is a prepared folder."""
        root, own = self.folders(self.kind)
        return root if is_prepared(root) else own / PREPARED

    def load(self, progress: Progress | None = None) -> DataSet:
        """The data set, read from its shards as it is needed.

        Raises:
            InputError: it is not prepared yet; the message says how to.
        """
        if not is_prepared(self.prepared):
            files = " and ".join(file.name for file in self.needed)
            raise InputError(
                f"{self.kind} is not prepared in {self.prepared}: get {files} from {self.needed[0].page}, then run"
                f" `vaebm data prepare {self.kind} --from FOLDER` once"
            )
        data = prepared_set(self.prepared, self)
        if data.name != self.kind:
            raise InputError(f"{self.prepared} holds {data.name}, not {self.kind}: set data.root to another folder")
        return data

    def missing(self, place: Path) -> list[Published]:
        """What of `needed` a folder lacks; its first, the images, is not lacking where they lie there unpacked."""
        further = self.needed[int(holds_pictures(place)) :]
        return [file for file in further if not any(place.rglob(file.name))]

    def make_ready(self, place: Path, fetch: bool, progress: Progress) -> None:
        """Downloads what `place` lacks, if `fetch`, and unpacks what cannot be read packed.

        Raises:
            InputError: a file is damaged, or no address gives it.
            OSError: the disk is full.
        """
        for file in self.missing(place) if fetch else ():
            if file.addresses:
                self.obtain(file, self.kind, progress)

    @abstractmethod
    def plan(self, folder: Path) -> Plan:
        """How its files in a folder become shards.

        Raises:
            InputError: a file is missing or damaged.
        """


def holds_pictures(place: Path) -> bool:
    """Whether image files lie in a folder or below."""
    return place.is_dir() and any(
        PurePosixPath(held).suffix.lower() in SUFFIXES for held in FolderSource(place).names()
    )


def pictures_in(place: Path, archive: Published) -> tuple[ImageSource, list[str]]:
    """The images of a published set, sorted by name: in its archive, an archive at `place`, or a folder of them.

    Raises:
        InputError: there are none, or the archive is damaged.
    """
    if (place / archive.name).is_file():
        check(place / archive.name, archive)
        source = open_source(place / archive.name)
    elif place.is_dir():
        source = FolderSource(place)
    elif place.exists():
        source = open_source(place)
    else:
        raise InputError(
            f"{place} does not exist: get {archive.name} from {archive.page}, and name its folder by --from"
        )
    names = [name for name in source.names() if PurePosixPath(name).suffix.lower() in SUFFIXES]
    if not names:
        raise InputError(f"{source.path} holds no images: get {archive.name} from {archive.page}")
    return source, names


def prepared_set(folder: Path, settings: ImageSettings) -> DataSet:
    """The set in a prepared folder, its images left on disk.

    Raises:
        InputError: it is damaged or not complete.
    """
    index = read_index(folder)
    parts = {name: _split(folder, name, index, settings) for name in index.parts}
    return DataSet(
        name=index.name,
        shape=index.shape,
        train=parts["train"],
        test=parts["test"],
        validation=parts.get("validation"),
        class_names=index.class_names,
        found=index.found,
        factor_names=index.factor_names,
    )


def _split(folder: Path, part: str, index: Index, settings: ImageSettings) -> Split:
    images = Shards(folder, index.parts[part], index.shape, EIGHT_BITS - settings.bits)
    labels, factors = (read_array(folder, part, what, index) for what in ("labels", "factors"))
    return Split(images, labels, settings.levels, settings.dequantise, factors)
