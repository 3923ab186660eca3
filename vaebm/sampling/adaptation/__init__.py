"""Adaptation: how a warm-up learns a kernel's numbers.

`dual_averaging` the step size, `mass` the diagonal mass, `warmup` their order.
"""
