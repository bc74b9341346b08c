"""Input that nobody should give, made from fixed seeds; test_fuzz tests what becomes of it."""
