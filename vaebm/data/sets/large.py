"""Large sets, which `vaebm data prepare NAME --from FOLDER` prepares once, and which are then read from disk."""

from abc import abstractmethod
from pathlib import Path, PurePosixPath
from typing import ClassVar

from vaebm.data.collection import Collection
from vaebm.data.files.archives import FolderSource, ImageSource, open_source
from vaebm.data.files.download import Published, check
from vaebm.data.manifest import Manifest
from vaebm.data.prepared import is_prepared, prepared_set
from vaebm.data.sets.published import PublishedSettings
from vaebm.data.splits import DataSet
from vaebm.errors import InputError
from vaebm.progress import Progress

PREPARED = "prepared"
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm"}


class LargeSettings(PublishedSettings):
    """What recipes may say of a published set that can be prepared."""

    @property
    def prepared(self) -> Path:
        """ROOT/NAME/prepared, or `root` itself where that is a prepared folder."""
        root, own = self.folders()
        return root if is_prepared(root) else own / PREPARED

    @abstractmethod
    def collection(self, source: Path | None, progress: Progress) -> Collection:
        """Its images, from its files in `source`, or where recipes look for them, downloaded if need be.

        Raises:
            InputError: a file is missing or damaged.
            OSError: the disk is full.
        """


class PicturesSettings(LargeSettings):
    """What recipes may say of a published set of image files, which has to be prepared.

    Attributes:
        needed: its files, first the one that holds the images.
    """

    needed: ClassVar[tuple[Published, ...]]

    def load(self, progress: Progress | None = None) -> DataSet:
        """The data set, read from disk as it is needed.

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

    def collection(self, source: Path | None, progress: Progress) -> Manifest:
        place = source or self.folders()[1]
        for file in self.missing(place) if source is None else ():
            if file.addresses:
                self.obtain(file, progress)
        return self.manifest(place, progress)

    def missing(self, place: Path) -> list[Published]:
        """What of `needed` a folder lacks; the images are not lacking where they lie there unpacked."""
        further = self.needed[int(holds_pictures(place)) :]
        return [file for file in further if not any(place.rglob(file.name))]

    @abstractmethod
    def manifest(self, place: Path, progress: Progress) -> Manifest:
        """Its files at a place as images.

        Raises:
            InputError: a file is missing or damaged.
        """


def holds_pictures(place: Path) -> bool:
    """Whether image files lie in a folder or below."""
    return place.is_dir() and any(map(_is_picture, FolderSource(place).names()))


def pictures_in(place: Path, archive: Published) -> tuple[ImageSource, list[str]]:
    """The images of a published set, sorted by name: in its archive, an archive at `place`, or a folder of them.

    Raises:
        InputError: there are none, or the archive is damaged.
    """
    if not place.exists():
        raise InputError(
            f"{place} does not exist: get {archive.name} from {archive.page}, and name its folder by --from"
        )
    if (place / archive.name).is_file():
        check(place / archive.name, archive)
        place = place / archive.name
    source = open_source(place)
    names = list(filter(_is_picture, source.names()))
    if not names:
        raise InputError(f"{source.path} holds no images: get {archive.name} from {archive.page}")
    return source, names


def _is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES
