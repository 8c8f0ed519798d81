"""What a run takes: before it, the plan, its rates and its jobs; during it, how far it is."""
