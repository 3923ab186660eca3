"""A detector of outliers in the manner of PyOD: trained on an array, it scores others. 1 is an outlier.

    detector = vaebm.Detector(contamination=0.05).fit(X)           # points (n, dim), or images (n, H, W), (n, C, H, W)
    detector.decision_function(X)                                  # (n,), high is strange
    detector.predict(X)                                            # (n,), 1 beyond the threshold
    detector.predict_proba(X)                                      # (n, 2): p-value, and one minus it

It is `vaebm train` and `model.score` behind other names: Zhao, Nasrullah & Li, PyOD, JMLR 2019,
https://arxiv.org/abs/1901.01588, has the conventions. Every tenth row is kept from training, and scores are calibrated
on those. Columns of points are brought to mean 0 and standard deviation 1.
"""

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from vaebm.data.samples import of_array
from vaebm.data.sets.given import given_data
from vaebm.errors import InputError
from vaebm.experiment.catalogue import Tree, merge, overrides_tree, read_recipe
from vaebm.experiment.recipe import validate
from vaebm.experiment.train import train_recipe
from vaebm.models.score import ScoredModel, Scores
from vaebm.progress import silent
from vaebm.training.engine import fastest_device, threads

POINTS: Tree = {
    "vae": {"latent_dim": 4, "hidden": [128, 128]},
    "vae_stage": {"iterations": 1500, "batch_size": 128, "kl_zero_iterations": 100, "kl_warmup_iterations": 500},
    "code_mixture": {"components": 10},
    "energy": {"latent": {"kind": "mixture"}},
    "energy_stage": {"batch_size": 128, "phases": {"ratio": {"iterations": 300}}},
}
PRESETS: dict[str, tuple[str, Tree]] = {"image": ("folder", {}), "points": ("gaussians25", POINTS)}
"""A recipe, and what differs from it, by modality."""


class Detector(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A VAE and an energy, trained on data most of which are ordinary.

    Args:
        contamination: the fraction of the training data that is beyond the threshold, above 0 and at most 0.5.
        recipe: what to train by; one for points, or `folder` for images, unless given.
        overrides: `key=value`, by path in the recipe.
        out: the run's directory; none is kept unless given.
        device: such as "cpu".

    Attributes:
        decision_scores_, labels_, threshold_: of the training data, after `fit`.
    """

    def __init__(
        self,
        contamination: float = 0.1,
        recipe: str | None = None,
        overrides: tuple[str, ...] = (),
        out: str | Path | None = None,
        device: str | None = None,
    ) -> None:
        self.contamination, self.recipe, self.overrides = contamination, recipe, overrides
        self.out, self.device = out, device

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Trains on X; y is not looked at.

        Raises:
            InputError: data that cannot be trained on, too few of them, or a contamination out of range.
        """
        if not 0 < self.contamination <= 0.5:
            raise InputError(f"contamination is {self.contamination}: give a fraction above 0 and at most 0.5")
        array = np.asarray(X)
        if array.ndim == 2 and (array.dtype.kind not in "fiu" or not np.isfinite(array).all()):
            raise InputError("X holds values that are no finite numbers: leave these rows out")
        self.scaler_ = StandardScaler().fit(array) if array.ndim == 2 else None
        settings, data = given_data(array if self.scaler_ is None else self.scaler_.transform(array))
        self.low_ = -1.0 if array.min() < 0 else 0.0  # black, of images of floats
        preset, differs = PRESETS[data.modality.name]
        name, tree = read_recipe(self.recipe or preset)
        own: Tree = {"name": name, "data": settings.model_dump(mode="json")}
        tree = merge({**tree, **own}, {} if self.recipe else differs)
        recipe = validate(merge(tree, overrides_tree(self.overrides)), name).for_device(fastest_device(self.device))
        with TemporaryDirectory() as folder:
            run = train_recipe(Path(self.out or folder).expanduser(), recipe, data, self.device, silent())
            model = run.model(self.device)
            assert isinstance(model, ScoredModel)
            self.model_: ScoredModel = model
            self.threads_ = recipe.threads
            with threads(self.threads_):
                self.model_.calibrate(run.held_out())
            self.model_.held_out = None
        self.decision_scores_ = self.decision_function(X)
        self.threshold_ = float(np.quantile(self.decision_scores_, 1.0 - self.contamination))
        self.labels_ = (self.decision_scores_ > self.threshold_).astype(int)
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Scores (n,) in nats; high is strange.

        Raises:
            InputError: data of another shape or range.
        """
        return self._scores(X).score.numpy()

    def predict(self, X: ArrayLike) -> NDArray[np.int_]:
        """(n,): 1 for an outlier, else 0."""
        return (self.decision_function(X) > self.threshold_).astype(int)

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """(n, 2): the p-value, and one minus it; no probabilities, but in their range and order."""
        p_value = self._scores(X).p_value.numpy()
        return np.stack([p_value, 1.0 - p_value], axis=1)

    def fit_predict(self, X: ArrayLike, y: object = None) -> NDArray[np.int_]:
        """Trains on X and gives its labels."""
        return self.fit(X).labels_

    def _scores(self, X: ArrayLike) -> Scores:
        check_is_fitted(self, "model_")
        values: NDArray[Any] = np.asarray(X)
        if self.scaler_ is not None:
            values = self.scaler_.transform(values)
        elif values.dtype.kind == "f":  # to the 256 values of a pixel, as in training
            values = np.rint((values.clip(self.low_, 1.0) - self.low_) * (255.0 / (1.0 - self.low_))).astype(np.uint8)
        x = of_array("X", values, self.model_.data_shape).x
        with threads(self.threads_), warnings.catch_warnings(action="ignore"):
            scores: Scores = self.model_.score(x)
        return scores
