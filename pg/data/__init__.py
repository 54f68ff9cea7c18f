"""Where rows come from and how they become the batch a model takes.

The spine: source, pipeline, stream, evaluation, prefix_lm, bad, cache,
fingerprint. Only pipeline, stream and evaluation know of jax; evals, inspect,
log and the verbs import it.
"""
