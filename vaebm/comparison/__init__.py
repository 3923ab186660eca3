"""Comparing samplers: all of them on one model, at the same number of gradient evaluations a sample.

`run` runs every candidate and keeps what is finished in `folder`; `scorer` measures what they drew, `mixing` what their
chains forget, and `advice` says which one to use.
"""
