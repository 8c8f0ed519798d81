"""The networks, one file each: their parameters are named as in the released checkpoints."""
