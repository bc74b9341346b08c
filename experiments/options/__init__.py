"""Groups of options that several commands share; nothing here imports JAX or the library."""
