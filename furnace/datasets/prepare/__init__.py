"""Turn data as it was downloaded into this project's layout: ``python -m furnace.datasets.prepare --help``."""
