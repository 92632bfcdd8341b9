"""What is wrong with the lists of a data set, without a look at the images."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from furnace.datasets.layout import Layout
from furnace.datasets.lists import Item, overlap_as_published, require_labels, role
from furnace.utils.errors import UserError, some


def read_lists(root: Path, layout: Layout) -> tuple[dict[Path, list[Item]], list[str]]:
    """The items of every list of the data set in ``root``, and a line for each list that cannot be read.

    Raises:
        UserError: there is no list.
    """
    paths = layout.lists(root)
    if not paths:
        raise UserError(
            f'{root} holds no lists: python -m furnace.datasets.prepare splits {root} --from DIR imports some'
        )
    lists, findings = {}, []
    for path in paths:
        try:
            lists[path] = layout.items(root, path)
        except UserError as error:
            findings.append(f'{error}; write it again or remove it')
    return lists, findings


def list_findings(lists: Mapping[Path, Sequence[Item]]) -> Iterator[str]:
    """A line for each thing wrong: images twice in a list, or both labelled and unlabelled, or without a label."""
    for path, items in lists.items():
        images = [item.image for item in items]
        twice = [image for image, times in Counter(images).items() if times > 1]
        if twice:
            yield f'{path}: names {len(twice)} images more than once: {some(twice)}; keep one line of each'
        if role(path) in ('labeled', 'val'):
            try:
                require_labels(items, path)
            except UserError as error:
                yield f'{error}; add their label files, or take them out'
        if role(path) == 'labeled':
            other = path.with_name(path.name.replace('labeled', 'unlabeled'))
            both = sorted(set(images) & {item.image for item in lists.get(other, ())})
            if both and not overlap_as_published(path, len(both)):
                yield f'{path}: {len(both)} images are in {other.name} too: {some(both)}; keep each in one of them'
