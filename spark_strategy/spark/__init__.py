"""What runs in Spark's processes: knows pyspark, never TensorFlow."""
