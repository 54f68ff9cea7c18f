"""Where rows come from and how they become the batch a model takes.

The spine: source, pipeline, stream, mixture, prefix_lm, bad, cache,
fingerprint. Only
pipeline and stream know of jax; evals, inspect, log and the verbs import it.
"""
