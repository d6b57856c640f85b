"""Rows of a DataFrame on their way to tensors."""
