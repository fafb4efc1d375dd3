"""What every room uses: errors, files, the machine, the console."""
