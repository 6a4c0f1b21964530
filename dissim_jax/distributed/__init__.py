"""What depends on devices and processes: meshes, compilation, checkpoints, being stopped."""
