"""The story of a run: one chapter a file, in the order in which the page tells it.

`opening` says what came out, `data` what was learned from, `samples` (images) or `density` (points) what the models
make, `chains` how the energy gets there, `energy` how it ranks them, `training` how it was learned, `record` what
was run.
"""
