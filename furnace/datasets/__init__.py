"""From what is on disk to tensors."""
