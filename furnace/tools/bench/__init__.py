"""The parts of ``furnace.tools.benchmark``."""
