"""What runs in the child process: knows TensorFlow, never pyspark."""
