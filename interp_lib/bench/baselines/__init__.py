"""The methods that a benchmark compares; `interp_lib.bench.methods` lists them by name and says what each returns."""
