"""What the build refuses, one file for each kind of rule."""
