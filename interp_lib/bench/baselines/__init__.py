"""The methods that a benchmark compares, one short file each, with one signature.

A method is a module with MODEL, the kind of model it runs on (None, "image" or "video"), and
`make(model, pair, *, frames, seed, **options) -> Interpolation`: `frames` images between the pair's two, both ends with
them, at the pair's size, on the CPU. `interp_lib.bench.methods` lists them by name.
"""
