"""Spark DataFrames in, trained Keras models out: composed from the rest, imported by nothing."""
