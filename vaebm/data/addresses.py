"""Where data sets are published: each file's addresses, its checksum, and the page where a person finds it."""

from __future__ import annotations

from vaebm.data.download import Published


def _idx(digests: dict[str, str], folders: tuple[str, ...], page: str) -> dict[str, Published]:
    return {
        name: Published(f"{name}-ubyte.gz", digest, tuple(f"{folder}/{name}-ubyte.gz" for folder in folders), page)
        for name, digest in digests.items()
    }


MNIST = _idx(
    {
        "train-images-idx3": "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1": "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3": "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1": "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
    (
        "https://storage.googleapis.com/cvdf-datasets/mnist",
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "http://yann.lecun.com/exdb/mnist",
    ),
    "http://yann.lecun.com/exdb/mnist",
)

FASHION_MNIST = _idx(
    {
        "train-images-idx3": "sha256:3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1": "sha256:a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3": "sha256:346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1": "sha256:67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
    (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
    ),
    "https://github.com/zalandoresearch/fashion-mnist",
)

_TORONTO = ("https://www.cs.toronto.edu/~kriz", "https://cave.cs.toronto.edu/kriz")
_CIFAR_PAGE = f"{_TORONTO[0]}/cifar.html"

CIFAR10 = Published(
    "cifar-10-binary.tar.gz",
    "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    (
        *(f"{folder}/cifar-10-binary.tar.gz" for folder in _TORONTO),
        "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/cifar-10-binary.tar.gz",
    ),
    _CIFAR_PAGE,
)
CIFAR10_PYTHON = Published("cifar-10-python.tar.gz", "md5:c58f30108f718f92721af3b95e74349a", (), _CIFAR_PAGE)
CIFAR100 = Published(
    "cifar-100-binary.tar.gz",
    "md5:03b5dce01913d631647c71ecec9e9cb8",
    tuple(f"{folder}/cifar-100-binary.tar.gz" for folder in _TORONTO),
    _CIFAR_PAGE,
)
CIFAR100_PYTHON = Published("cifar-100-python.tar.gz", "md5:eb9058c3a382ffc7106e4002c42a8d85", (), _CIFAR_PAGE)

CIFAR10_BINARY_FILES = {
    "data_batch_1": "sha256:cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2": "sha256:a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3": "sha256:bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4": "sha256:014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5": "sha256:755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch": "sha256:8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
CIFAR10_PYTHON_FILES = {
    "data_batch_1": "md5:c99cafc152244af753f735de768cd75f",
    "data_batch_2": "md5:d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "md5:54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "md5:634d18415352ddfa80567beed471001a",
    "data_batch_5": "md5:482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "md5:40351d587109b95175f43aff81a1287e",
}
CIFAR100_BINARY_FILES = {
    "train": "md5:6172c7755cfe09b2fe270c85cebc1b15",
    "test": "md5:4499cfba6c016c1be1438163640a0898",
}
CIFAR100_PYTHON_FILES = {
    "train": "md5:16019d7e3df5f24257cddd939b257f8d",
    "test": "md5:f0ef6b0ae62326f3e7ffdfab6717acfc",
}

SVHN = {
    part: Published(
        f"{part}_32x32.mat",
        f"md5:{digest}",
        (f"http://ufldl.stanford.edu/housenumbers/{part}_32x32.mat",),
        "http://ufldl.stanford.edu/housenumbers",
    )
    for part, digest in {
        "train": "e26dedcc434d2e4c54c9b2d4a06d8373",
        "test": "eb5a983be6a315427106f1b164d9cef3",
    }.items()
}

_CELEBA_PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html (Google Drive: Img, img_align_celeba.zip; Eval)"
_DRIVE = "https://drive.usercontent.google.com/download?confirm=t&id="
CELEBA_IMAGES = Published(
    "img_align_celeba.zip",
    "md5:00d2c5bc6d35e252742224ab0c1e8fcb",
    (
        f"{_DRIVE}0B7EVK8r0v71pZjFTYXZWM3FlRnM",
        "https://s3-us-west-1.amazonaws.com/udacity-dlnfd/datasets/celeba.zip",
    ),
    _CELEBA_PAGE,
)
CELEBA_PARTITION = Published(
    "list_eval_partition.txt",
    "md5:d32c9cbf5e040fd4025c592c306e6668",
    (f"{_DRIVE}0B7EVK8r0v71pY0NSMzRuSXJEVkk",),
    _CELEBA_PAGE,
)
CELEBAHQ = Published("CelebA-HQ's 30,000 images", None, (), "https://github.com/tkarras/progressive_growing_of_gans")
LSUN_TRAIN, LSUN_VAL = (
    Published(
        f"church_outdoor_{part}_lmdb.zip",
        None,
        (f"http://dl.yf.io/lsun/scenes/church_outdoor_{part}_lmdb.zip",),  # their https has no valid certificate
        "https://www.yf.io/p/lsun",
    )
    for part in ("train", "val")
)
CHAIRS = Published(
    "rendered_chairs.tar",
    None,
    tuple(
        f"{scheme}://www.di.ens.fr/willow/research/seeing3Dchairs/data/rendered_chairs.tar"
        for scheme in ("https", "http")
    ),
    "https://www.di.ens.fr/willow/research/seeing3Dchairs",
)

_SPRITES = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
DSPRITES = Published(
    _SPRITES,
    None,
    (
        f"https://raw.githubusercontent.com/google-deepmind/dsprites-dataset/master/{_SPRITES}",
        f"https://github.com/google-deepmind/dsprites-dataset/raw/master/{_SPRITES}",
    ),
    "https://github.com/google-deepmind/dsprites-dataset",
)
