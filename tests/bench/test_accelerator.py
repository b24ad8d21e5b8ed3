import accelerator
import jax
import pytest

from fidle_jax import kernels
from fidle_jax.kernels import methods, specs


def test_without_an_accelerator_one_line_says_so_and_the_status_is_0(run_main, capsys):
    assert run_main(accelerator) == 0
    output = capsys.readouterr().out
    assert output.startswith("no GPU or TPU")
    assert output.count("\n") == 1


@pytest.fixture
def as_accelerator(monkeypatch):
    class Device:
        platform, device_kind = "gpu", "simulated"

    monkeypatch.setattr(accelerator, "default_device", lambda: Device)
    monkeypatch.setattr(specs, "CONV_SPECS", specs.CONV_SPECS[:1])


@pytest.mark.usefixtures("as_accelerator")
def test_all_checks_run_and_a_failed_one_has_status_1(run_main, monkeypatch, capsys):
    checks = accelerator.checks()
    some = ("conv by winograd", "max_pool by xla", "random bits and dropout", "training by im2col")
    assert set(some) < set(checks)

    def fails():
        raise ValueError("wrong\nsecond line")

    chosen = {name: checks[name] for name in some} | {"last": fails}
    monkeypatch.setattr(accelerator, "checks", lambda: chosen)
    assert run_main(accelerator) == 1
    output = capsys.readouterr()
    lines = output.out.splitlines()[1:]
    assert [line.split(":")[0] for line in lines] == list(chosen)
    assert all(": ok" in line for line in lines[:-1])
    assert lines[-1].startswith("last: FAILED, ValueError: wrong (")
    assert "1 checks failed: last" in output.err


@pytest.mark.usefixtures("as_accelerator")
def test_checks_after_the_limit_are_left_out(run_main, monkeypatch, capsys):
    monkeypatch.setattr(accelerator, "LIMIT", -1)
    assert run_main(accelerator) == 0
    assert all("left out" in line for line in capsys.readouterr().out.splitlines()[1:])


def test_a_wrong_method_fails_its_checks(monkeypatch):
    monkeypatch.setattr(methods, "_METHODS", dict(methods._METHODS))
    kernels.register("mine", lambda x, w, **how: 1.01 * kernels.conv(x, w, **how))
    with pytest.raises(RuntimeError, match=r"the error is 0\.01 of the largest value"):
        accelerator.check_kernel("conv", "mine", specs.CONV_SPECS[:1])


def test_the_times_of_a_network_are_a_table(monkeypatch):
    program = (lambda x: jax.numpy.sin(x).sum()), (jax.numpy.ones(4),)
    monkeypatch.setattr(accelerator, "make_program", lambda name: program)
    lines = accelerator.time_network("mnist").splitlines()
    assert lines[1].split()[:4] == ["xla,", "ms", "auto,", "ms"]
    assert [line[:9] for line in lines[2:4]] == ["called fr", "in a loop"]
