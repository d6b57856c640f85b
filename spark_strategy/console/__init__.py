"""What a person runs: the command line and its main job."""
