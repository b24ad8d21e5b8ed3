import numpy as np
import pytest

from fidle_jax.inference import latency


class SlowNetwork:
    """Takes so many seconds a call, the first of which is compiled; on a clock of its own."""

    def __init__(self, seconds, patch):
        self.now, self.seconds, self.shapes = 0.0, seconds, []
        patch.setattr(latency.time, "perf_counter", lambda: self.now)

    def __call__(self, images):
        self.now += self.seconds(len(self.shapes)) if self.shapes else 100
        self.shapes.append(images.shape)
        return np.zeros((len(images), 10))


def test_it_is_the_median_without_the_compilation(monkeypatch):
    # Every tenth call is slow.
    network = SlowNetwork(lambda call: 0.05 if call % 10 else 0.5, monkeypatch)
    found = latency.measure_latency(network, (4, 6, 3), batch_size=8)
    assert found.seconds == pytest.approx(0.05)
    assert 0.05 < found.slow_seconds <= 0.5
    assert found.images_per_second() == pytest.approx(8 / 0.05)
    assert set(network.shapes) == {(8, 4, 6, 3)}
    assert found.calls == len(network.shapes) - 2


@pytest.mark.parametrize(
    ("seconds", "calls"), [(20, latency.FEWEST), (0.1, 10), (1e-5, latency.MOST)]
)
def test_a_size_is_measured_for_a_second_by_enough_calls_and_not_too_many(
    monkeypatch, seconds, calls
):
    network = SlowNetwork(lambda _: seconds, monkeypatch)
    found = latency.measure_latency(network, (2, 2, 1), batch_size=1)
    assert abs(found.calls - calls) <= 1
