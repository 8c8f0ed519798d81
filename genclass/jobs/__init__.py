"""From a spec and a shard to a score file, restartable at any instant."""
