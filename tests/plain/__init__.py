"""The method written down literally and without optimisation: what the fast code must equal and is measured against.

The habits are those of the released code: whole images in float64, every graph of a step alive at once, counts and
window logits fetched to the host. Nothing in ``furnace`` imports it; ``furnace.tools.benchmark`` runs it where the
checkout has it.
"""
