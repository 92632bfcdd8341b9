"""The experiments' config.py."""

from pathlib import Path

from furnace.engine.config import Config, load_config

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = ('exp_city', 'exp_voc', 'exp_camvid', 'exp_demo')


def load(experiment: str, *arguments: str) -> Config:
    """Its configuration under NAME=VALUE ``arguments``."""
    return load_config(ROOT / experiment / 'config.py', arguments)
