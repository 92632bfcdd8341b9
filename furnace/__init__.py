"""CPCL in PyTorch. ``furnace.load('epoch-last.pth')`` gives a trained network; see ``furnace.engine.model``."""


def __getattr__(name: str):
    if name == 'load':  # only when asked for: its modules import this package
        from furnace.engine.model import load

        return load
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
