"""Training on several processes: groups, heartbeats, sharded tensors."""
