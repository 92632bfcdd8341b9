"""The arithmetic of the method: pure functions of tensors."""
