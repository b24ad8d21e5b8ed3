"""``--distributed``: this process as one of several."""

from collections.abc import Callable

from fidle_jax.cli.flags import Flags

# What may be another in each process.
OWN = ("process_index", "coordinator", "archives", "data_dir", "progress", "debug")


def join_others(flags: Flags, experiment: str, resume_command: Callable[[], str]) -> None:
    """Finds the run's other processes, which have to have the same flags."""
    import jax

    from fidle_jax.train import processes
    from fidle_jax.train.join import join

    # It would take SIGTERM over.
    jax.config.update("jax_enable_preemption_service", False)
    join(
        flags.coordinator,
        flags.processes,
        flags.process_index,
        wait_seconds=flags.connect_seconds,
        resume_command=resume_command,
        debug=flags.debug,
    )
    settings = {
        f"--{name.replace('_', '-')}": value
        for name, value in vars(flags).items()
        if name not in OWN
    }
    processes.check_same({"the experiment": experiment, **settings, "JAX": jax.__version__})
