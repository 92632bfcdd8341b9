"""Studies: methods compared over label ratios and seeds."""
