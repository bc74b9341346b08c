"""How fast an iteration is: against the hardware's limit, the published algorithm, and itself."""
