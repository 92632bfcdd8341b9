"""Where weights come from: caches as the hub and PyTorch keep them, and what is told where a file is not there."""

import hashlib
import threading
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from filelock import FileLock, Timeout
from huggingface_hub import constants

from furnace.base_model import DualNetwork, load_pretrained
from furnace.base_model.resnet import BACKBONES
from furnace.base_model.weights import sources
from furnace.base_model.weights.files import load_file
from furnace.base_model.weights.sources import fetch
from furnace.utils.errors import UserError

REPOSITORY = 'owner/net.v1'
COMMITS = {'main': 'a' * 40, 'old': 'b' * 40}


def digest(content):
    return hashlib.sha256(content).hexdigest()


def told(source, backbone='resnet18'):
    with pytest.raises(UserError) as caught:
        fetch(source, backbone)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    return text


def put(folder, ref, commit, tensors):
    """A revision with model.safetensors in the hub's cache, as its client leaves it."""
    content = safetensors.torch.save(tensors)
    blob, snapshot = folder / 'blobs' / digest(content), folder / 'snapshots' / commit
    for parent in (blob.parent, snapshot, folder / 'refs'):
        parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    (snapshot / 'model.safetensors').symlink_to(f'../../blobs/{blob.name}')
    (folder / 'refs' / ref).write_text(commit)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The folder of a repository in a cache of the hub, without a network: two revisions of one small file."""
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    folder = tmp_path / 'models--owner--net.v1'
    for ref, commit in COMMITS.items():
        put(folder, ref, commit, {'x': torch.full((100,), float(ref == 'old'))})
    return folder


@pytest.mark.parametrize(
    ('revision', 'ref'), [('', 'main'), ('@main', 'main'), ('@old', 'old'), (f'@{COMMITS["old"]}', 'old')]
)
def test_hub_cache_serves_without_a_network(hub, revision, ref):
    source = f'hf:{REPOSITORY}{revision}'
    path = hub / 'snapshots' / COMMITS[ref] / 'model.safetensors'
    weights = fetch(source, 'resnet50')
    assert load_file(weights.path)['x'].tolist() == [float(ref == 'old')] * 100
    assert str(weights) == f'{source} ({path}, SHA-256 {digest(path.read_bytes())})'


def test_hub_file_fills_both_backbones(hub):
    """A whole ResNet-18 as timm names it, in half precision and without batch counters."""
    backbones = [branch.backbone for branch in DualNetwork(3, 'resnet18').branches]
    state = {name: value.half() + 1 for name, value in BACKBONES['resnet18']().state_dict().items() if value.ndim}
    put(hub, 'half', 'c' * 40, {**state, 'fc.weight': torch.rand(3, 512)})
    line = load_pretrained(backbones, f'hf:{REPOSITORY}@half', 'resnet18')
    assert line.startswith(f'hf:{REPOSITORY}@half (') and line.endswith('), without fc')
    for backbone in backbones:
        own = backbone.state_dict()
        assert all(torch.equal(own[name], value.float()) for name, value in state.items())
        assert own['bn1.num_batches_tracked'] == 0


def test_hub_file_with_another_bit_is_damaged(hub):
    """Its header is whole: only the SHA-256 that names it tells."""
    blob = (hub / 'snapshots' / COMMITS['main'] / 'model.safetensors').resolve()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    assert told(f'hf:{REPOSITORY}') == (
        f'{blob}: is damaged: its SHA-256 is {digest(content)}, not {blob.name}; '
        'delete it, and the next start downloads it again'
    )
    assert fetch(f'hf:{REPOSITORY}@old', 'resnet50')


@pytest.mark.parametrize('content', [b'', b'{}', bytes(range(200))])
def test_damaged_file_in_a_cache_without_links(hub, content):
    path = hub / 'snapshots' / COMMITS['main'] / 'model.safetensors'
    path.unlink()
    path.write_bytes(content)
    with pytest.raises(UserError, match='cannot be read as a safetensors file; is it complete'):
        load_file(fetch(f'hf:{REPOSITORY}', 'resnet50').path)


@pytest.mark.parametrize('source', ['hf:timm/net', f'hf:{REPOSITORY}@new'])
def test_hub_file_that_is_not_cached(hub, source):
    text = told(source)
    folder = f'models--{source[3:].partition("@")[0].replace("/", "--")}'
    assert text.startswith(f'{source}: cannot be downloaded (')
    assert 'offline mode' in text
    assert f'copy {folder} of its cache into {hub.parent}, or model.safetensors anywhere and set C.pretrained' in text


@pytest.mark.parametrize('source', ['hf:', 'hf:net', 'hf:a/b@', 'hf:a/b/c', 'hf:a/b c'])
def test_hub_name_of_another_form(source):
    assert told(source) == f'{source}: a name on the hub has the form hf:OWNER/NAME or hf:OWNER/NAME@REVISION'


@pytest.mark.parametrize('backbone', ['resnet50', 'resnet101'])
def test_torchvision_has_one_stem_alone(backbone):
    text = f'torchvision: its {backbone} has another stem than this one; use hf:timm/{backbone}s.gluon_in1k'
    assert told('torchvision', backbone) == text


def test_path(tmp_path):
    path = tmp_path / 'x.pth'
    assert told(path) == f'{path}: no such file'
    path.write_bytes(b'12')
    assert str(fetch(path, 'resnet18')) == f'{path} (SHA-256 {digest(b"12")})'


@pytest.fixture
def torchvision(tmp_path, monkeypatch):
    """A file to download, and its place in PyTorch's cache."""
    there = tmp_path / f'net-{digest(b"weights")[:8]}.pth'
    there.write_bytes(b'weights')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    monkeypatch.setitem(sources.TORCHVISION, 'resnet18', SimpleNamespace(url=there.as_uri()))
    return there, tmp_path / 'home' / 'hub' / 'checkpoints' / there.name


def test_torchvision_downloads_once(torchvision):
    there, here = torchvision
    for _ in range(2):
        assert str(fetch('torchvision', 'resnet18')) == f'torchvision ({here}, SHA-256 {digest(b"weights")})'
        there.unlink(missing_ok=True)


def test_torchvision_without_a_network(torchvision):
    there, here = torchvision
    there.unlink()
    text = told('torchvision')
    assert text.startswith(f'torchvision: {there.as_uri()} cannot be downloaded (')
    assert f'copy it into {here.parent}, or anywhere and set C.pretrained_model' in text


def test_torchvision_download_of_other_content(torchvision):
    there, here = torchvision
    there.write_bytes(b'other')
    assert 'invalid hash value' in told('torchvision')
    assert not here.exists()


def test_torchvision_cache_of_other_content(torchvision):
    there, here = torchvision
    here.parent.mkdir(parents=True)
    here.write_bytes(b'other')
    assert told('torchvision').startswith(
        f'{here}: is damaged: its SHA-256 is {digest(b"other")}, not {there.stem[4:]};'
    )


def test_one_process_downloads_and_the_others_wait(torchvision, monkeypatch):
    """Another one looks for the file before it is there, and comes to the lock while the first one downloads."""
    there, here = torchvision
    other = threading.Thread(target=fetch, args=('torchvision', 'resnet18'))
    came, calls = threading.Event(), []

    class Lock(FileLock):
        def __enter__(self):
            if threading.current_thread() is other:
                came.set()
            return super().__enter__()

    def download(url, path, **_):
        calls.append(url)
        if len(calls) == 1:
            with pytest.raises(Timeout):
                FileLock(f'{path}.lock').acquire(timeout=0)
            other.start()
            assert came.wait(timeout=60)
        here.write_bytes(there.read_bytes())

    monkeypatch.setattr(sources, 'FileLock', Lock)
    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    fetch('torchvision', 'resnet18')
    other.join()
    assert calls == [there.as_uri()]
