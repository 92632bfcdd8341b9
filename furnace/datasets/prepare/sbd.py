"""SBD's label maps (Hariharan et al., ICCV 2011), which are MATLAB files; and the archives of VOC and SBD."""

import io
import zlib
from http.client import HTTPException
from pathlib import Path

import numpy as np

from furnace.datasets.prepare.sources import Entry
from furnace.utils.errors import RunError, UserError


def require_scipy() -> None:
    """Raises UserError where scipy, an optional package, is not installed."""
    try:
        import scipy.io  # noqa: F401
    except ImportError:
        raise UserError("SBD's .mat label maps need scipy: pip install scipy") from None


def read_mat(label: Entry) -> np.ndarray:
    """The class ids of an SBD label map, uint8 (H, W).

    Raises:
        UserError: the file is damaged, or not such a map.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    data = label.read()
    try:
        ids = np.asarray(loadmat(io.BytesIO(data), variable_names=['GTcls'])['GTcls'][0]['Segmentation'][0])
    except (
        KeyError, IndexError, TypeError, ValueError, EOFError, OSError, NotImplementedError, zlib.error, MatReadError
    ):  # fmt: skip
        raise UserError(f"{label.where}: is not one of SBD's label maps (cls/*.mat), or damaged") from None
    if ids.ndim != 2 or ids.dtype != np.uint8 or ids.max(initial=0) > 20:
        raise UserError(f"{label.where}: is not one of SBD's label maps: expected class ids 0 … 20 in two dimensions")
    return ids


def fetch(folder: Path) -> None:
    """Download the archives of VOC 2012 and SBD to ``folder``, from where torchvision's data sets fetch them.

    What is there already and whole is not fetched again.

    Raises:
        RunError: no network, or a damaged download; the text says what to fetch by hand.
    """
    from torchvision.datasets import SBDataset
    from torchvision.datasets.utils import download_url
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    voc = DATASET_YEAR_DICT['2012']
    archives = [(voc['url'], voc['filename'], voc['md5']), (SBDataset.url, SBDataset.filename, SBDataset.md5)]
    for url, name, md5 in archives:
        try:
            download_url(url, str(folder), name, md5)
        except (OSError, RuntimeError, HTTPException) as error:
            reason = ' '.join(str(error).split())
            by_hand = ' and '.join(url for url, _, _ in archives)
            raise RunError(
                f'{name} cannot be downloaded ({reason}): fetch {by_hand} by hand into {folder}, '
                'and give the same command without --download'
            ) from None
