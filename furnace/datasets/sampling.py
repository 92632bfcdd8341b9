"""Which image each stream shows at each position of an epoch, from seed and epoch alone."""

import numpy as np

LABELED, U0, U1 = range(3)


def generator(*key: int) -> np.random.Generator:
    """A generator that depends on the key alone, e.g. (seed, epoch, stream, position)."""
    return np.random.default_rng(np.random.SeedSequence(key))


def epoch_order(num_images: int, length: int, seed: int, epoch: int, stream: int) -> np.ndarray:
    """``length`` indices into a list of ``num_images``, int64.

    A list shorter than that is gone through several times, reshuffled each time; of a longer one a fresh part is
    drawn each epoch.
    """
    rng = generator(seed, epoch, stream)
    passes = -(-length // num_images)
    return np.concatenate([rng.permutation(num_images) for _ in range(passes)])[:length]


def unlabeled_orders(num_images: int, length: int, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """Independent orders for u0 and u1 in which no position holds the same image twice (given two images or more)."""
    u0 = epoch_order(num_images, length, seed, epoch, U0)
    u1 = epoch_order(num_images, length, seed, epoch, U1)
    if num_images > 1:
        for i in np.flatnonzero(u0 == u1):
            # Exchange within u1, so that each image is still shown as often as before …
            other = np.flatnonzero((u1 != u0[i]) & (u0 != u1[i]))
            if len(other):
                j = other[i % len(other)]
                u1[i], u1[j] = u1[j], u1[i]
            else:  # … unless there is no partner, as in an epoch of one position.
                u1[i] = (u0[i] + 1) % num_images
    return u0, u1
