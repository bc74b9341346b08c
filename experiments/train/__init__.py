"""Training one network: the command, the loop, checkpoints and their resuming."""
