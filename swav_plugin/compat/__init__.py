"""What other versions of our dependencies and of SwAV need to fit in."""
