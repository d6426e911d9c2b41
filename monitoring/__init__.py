"""What a running system tells about itself and its data."""
