"""Comparing samplers: all of them on a run's model, in its noise space, at the same number of gradients a sample.

    samplers.json          a row a sampler, with advice on the recommended one
    samples/SAMPLER.npz    what each drew: `images` or `points`
    reference.json         masses of a model in the plane, which take long to compute
    samplers.html          the page (see `report.samplers`)

Rows of the same protocol (model, gradients, number of samples, start, seed) are kept, so a stopped comparison goes on; of
another protocol they are replaced.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaebm.data import DataSet
from vaebm.data.transforms import to_uint8
from vaebm.distributions.pixel import CensoredPixels, GaussianPixels
from vaebm.errors import InputError
from vaebm.experiment.contender import Contender, Course, KernelContender, Terms, short_ladder
from vaebm.experiment.evaluate import Evaluation
from vaebm.experiment.judge import ImageJudge, Judge, Masses, PointJudge
from vaebm.experiment.mixing import Watch
from vaebm.experiment.populations import ImportanceContender, SMCContender
from vaebm.experiment.run_directory import Run
from vaebm.experiment.sampler_advice import advise
from vaebm.hybrid import VAEBM
from vaebm.metrics.measurement import Measurement
from vaebm.progress import Progress, Task, silent
from vaebm.sampling import KERNELS
from vaebm.training.checkpoint import write_synced

ROWS, REFERENCE, SAMPLES = "samplers.json", "reference.json", "samples"
POINTS, MOST_IMAGES = 10_000, 720
FEWEST = 64
PROBES = 128
