"""Commands that use a network which ``train`` or the library has trained."""
