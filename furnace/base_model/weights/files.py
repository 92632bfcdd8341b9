"""Reading files of tensors. Code in a file is never run."""

import hashlib
import os
import pickle
import warnings
import zipfile

import safetensors
import safetensors.torch
import torch

from furnace.utils.errors import UserError


def load_file(path: str | os.PathLike) -> dict:
    """The dict of tensors and plain values in ``path``, on the CPU: a .safetensors file, else one of PyTorch.

    Raises:
        UserError: the file is missing, damaged, or holds anything but tensors and plain values.
    """
    _require(path)
    return _load_safetensors(path) if str(path).endswith('.safetensors') else _load_torch(path)


def sha256(path: str | os.PathLike) -> str:
    """The SHA-256 of the file, 64 hexadecimal digits.

    Raises:
        UserError: the file is missing or cannot be read.
    """
    _require(path)
    digest = hashlib.sha256()
    try:
        with open(path, 'rb') as file:
            while block := file.read(2**20):
                digest.update(block)
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror}') from None
    return digest.hexdigest()


def _require(path: str | os.PathLike) -> None:
    if not os.path.isfile(path):
        raise UserError(f'{path}: no such file')


def _load_safetensors(path: str | os.PathLike) -> dict:
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f'{path}: cannot be read as a safetensors file; is it complete?') from error


def _load_torch(path: str | os.PathLike) -> dict:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # about the form of a damaged file; it is told in one line below
            content = torch.load(path, map_location='cpu', weights_only=True)
        damaged = zipfile.ZipFile(path).testzip() if zipfile.is_zipfile(path) else None  # PyTorch skips the checksums
    except pickle.UnpicklingError as error:
        raise UserError(f'{path}: refused, it holds more than tensors and plain values, or is damaged') from error
    except Exception as error:  # a damaged file can fail anywhere in PyTorch's reader
        raise UserError(f'{path}: cannot be read as a PyTorch checkpoint; is it complete?') from error
    if damaged:
        raise UserError(f'{path}: is damaged: {damaged} does not have its checksum')
    if not isinstance(content, dict):
        raise UserError(f'{path}: holds a {type(content).__name__}, not a dict of tensors')
    return content
