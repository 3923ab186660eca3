import json
import math

import pytest

from vaebm.errors import InputError
from vaebm.metrics import Measurement

EXAMPLE = Measurement("frechet_distance", 24.1, 0.8, 10_000, {"features": "classifier", "split": "train"}, "vaebm")


def test_json_is_the_flat_object_and_comes_back() -> None:
    record = EXAMPLE.to_json()
    assert record == {
        "name": "frechet_distance",
        "subject": "vaebm",
        "value": 24.1,
        "stderr": 0.8,
        "n": 10_000,
        "settings": {"features": "classifier", "split": "train"},
    }
    assert Measurement.from_json(json.loads(json.dumps(record))) == EXAMPLE


def test_further_keys_are_left_aside() -> None:
    assert Measurement.from_json(EXAMPLE.to_json() | {"recipe": "digits", "seconds": 12}) == EXAMPLE


@pytest.mark.parametrize(
    ("value", "stderr"), [(math.nan, 0.0), (math.inf, 0.0), (1.0, math.nan), (1.0, math.inf), (1.0, -0.1)]
)
def test_what_is_no_number_is_no_measurement(value: float, stderr: float) -> None:
    with pytest.raises(InputError, match="no measurement"):
        Measurement("elbo", value, stderr, 10)


@pytest.mark.parametrize("setting", [math.nan, object()])
def test_settings_must_fit_into_json(setting: object) -> None:
    with pytest.raises(InputError, match="do not fit into JSON"):
        Measurement("elbo", 1.0, 0.0, 10, {"setting": setting})


@pytest.mark.parametrize("change", [{"value": None}, {"value": "much"}, {"settings": 3}])
def test_damaged_records_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Measurement.from_json(EXAMPLE.to_json() | change)


def test_missing_keys_are_named() -> None:
    record = EXAMPLE.to_json()
    del record["stderr"]
    with pytest.raises(InputError, match="lacks 'stderr'"):
        Measurement.from_json(record)


def test_subject_and_settings_can_be_added() -> None:
    measured = Measurement("elbo", 1.0, 0.5, 10, {"a": 1})
    assert measured.with_subject("vae").subject == "vae"
    assert measured.with_settings(a=2, b=3).settings == {"a": 2, "b": 3}
    assert measured.settings == {"a": 1}
    assert str(measured) == "elbo 1 ± 0.5 (n = 10)"


def test_the_mean_of_draws() -> None:
    draws = [Measurement("recall", value, 0.5, 9, {"k": 3, "largest_of": i}) for i, value in enumerate((1.0, 2.0, 6.0))]
    mean = Measurement.mean_of(draws)
    assert (mean.value, mean.n) == (3.0, 9)
    assert mean.stderr == pytest.approx((7.0 / 3) ** 0.5)
    assert mean.settings == {"k": 3, "draws": 3, "spread": pytest.approx(7.0**0.5), "stderr_over": "draws"}
    assert Measurement.mean_of(draws[:1]) is draws[0]
