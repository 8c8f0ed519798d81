"""What turns a network's outputs into scores of classes."""
