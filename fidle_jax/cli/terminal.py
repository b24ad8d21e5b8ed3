"""Output, errors and exit statuses of every command, and the compilation cache."""

import contextlib
import errno
import glob
import importlib
import io
import logging
import os
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from fidle_jax.errors import InputError, printable
from fidle_jax.train.cache import enable_compilation_cache
from fidle_jax.train.signals import Stop, catch_stop

FAILED, WRONG_INPUT, INTERRUPTED = 1, 2, 130
WRONG_PATH = (
    errno.ENOENT,
    errno.EACCES,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
)
MAX_NAME = 100  # characters of a file's name in a message


def exit_with(
    body: Callable[[Stop], int | None], interruption: str = "interrupted; nothing was written"
) -> NoReturn:
    """Call ``body`` and exit with its status. Report an InputError, an OSError or a signal in one line.

    Args:
        body: The program. It receives the signals that ask it to stop. None means success.
        interruption: Message after a signal.
    """
    _set_up_output()
    if isinstance(sys.stdout, _Output) and {"-h", "--help"} & set(sys.argv):
        sys.stdout.escapes = False  # the help has colours
    os.environ["MPLBACKEND"] = "agg"  # figures are only written to files
    with catch_stop() as stop:
        try:
            status = body(stop) or 0
        except InputError as error:
            status = fail(error, WRONG_INPUT)
        except OSError as error:
            wrong_path = error.filename is not None and error.errno in WRONG_PATH
            status = fail(_describe(error), WRONG_INPUT if wrong_path else FAILED)
        except KeyboardInterrupt:
            print(interruption, file=sys.stderr)
            status = INTERRUPTED
        except Exception as error:
            status = fail(unexpected(error), FAILED)
    sys.stdout.flush()
    if isinstance(sys.stdout, _Output) and (lost := sys.stdout.error):
        status = status or fail(f"the output could not be written: {lost.strerror}", FAILED)
    sys.exit(status)


def _describe(error: OSError) -> Exception:
    """Shorten the name of a file that is not usable."""
    if error.filename is None:
        return error
    name = str(error.filename)
    name = name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}..."
    return OSError(f"{name} cannot be used: {error.strerror}; check the path").with_traceback(
        error.__traceback__
    )


def unexpected(error: Exception) -> Exception:
    """Describe an error that no one foresaw, and name the environment variables that often cause one."""
    names = sorted(name for name in os.environ if re.match("JAX_(?!COMPILATION_CACHE)|XLA_", name))
    advice = "add --debug to see where"
    if names:
        advice = f"unset {' and '.join(names)}, if they may be the reason"
    text = f"{type(error).__name__} {error}".strip().splitlines()[0]
    return RuntimeError(f"{text}; {advice}").with_traceback(error.__traceback__)


def start(stop: Stop, *modules: str) -> None:
    """Import the modules that a command needs, and enable the compilation cache.

    Flags are parsed before, because JAX takes a second to import. An exception that a signal raises
    during an import may be lost or end the process.
    """
    with stop.defer():
        for module in modules:
            importlib.import_module(module)
        if "jax" in sys.modules:
            enable_compilation_cache()
    stop.check()


def command_text(file: str, words: Sequence[str] | None) -> str:
    """Return the command that runs an experiment. ``words`` are those of the process if None."""
    return shlex.join(
        ["python", f"experiments/{file}.py", *(sys.argv[1:] if words is None else words)]
    )


def _set_up_output() -> None:
    """Write stdout and stderr with `_Output`. Show the project's warnings on stderr, one line each."""
    sys.stdout, sys.stderr = _Output.replace(sys.stdout), _Output.replace(sys.stderr)
    logger = logging.getLogger("fidle_jax")
    logger.propagate = False
    if not any(isinstance(handler, _OneLine) for handler in logger.handlers):
        logger.addHandler(_OneLine())
    show_others, seen = warnings.showwarning, set[str]()

    def show(message, category, *place, **options):
        if category.__module__.startswith("fidle_jax."):
            logger.warning(message)
        elif found := re.match(_CACHE_WARNING, str(message), re.DOTALL):
            text = _describe_cache_error(*found.groups())
            if found[1] not in seen:  # JAX warns about each program
                logger.warning(text)
            seen.add(found[1])
        else:
            show_others(message, category, *place, **options)

    warnings.showwarning = show


_CACHE_WARNING = r"Error (reading|writing) persistent compilation cache entry for '(.*?)': (.*)"


def _describe_cache_error(verb: str, program: str, reason: str) -> str:
    """Describe that JAX cannot read or write its cache. Delete unreadable entries, because JAX does not."""
    import jax

    cache = Path(jax.config.jax_compilation_cache_dir or "")
    if verb == "reading":
        for path in cache.glob(f"{glob.escape(program)}-*"):
            path.unlink(missing_ok=True)
        return f"the compilation cache {cache} has damaged entries; they are deleted and compiled again"
    return (
        f"the compilation cache {cache} cannot be written ({reason.splitlines()[0]}); programs are not "
        "cached; set JAX_COMPILATION_CACHE_DIR to another directory"
    )


class _Output(io.TextIOWrapper):
    """A stream that is flushed after each line and escapes what a terminal would obey.

    If it cannot be written, the program goes on without it.
    """

    escapes = True
    error: OSError | None = None  # the first failure, apart from that of a reader that has finished

    @classmethod
    def replace(cls, stream: Any) -> Any:
        """Return the replacement of a standard stream. Captured streams stay as they are."""
        if stream is None:
            return open(os.devnull, "w")  # closed by the caller; open until the end
        if type(stream) is not io.TextIOWrapper or stream not in (sys.__stdout__, sys.__stderr__):
            return stream
        encoding = stream.encoding
        return cls(stream.detach(), encoding, "backslashreplace", line_buffering=True)

    def write(self, text: str) -> int:
        """Write text with escapes. After a failure, drop it."""
        return self._write(text, r"[^\n\r\t]+")

    def write_styled(self, text: str) -> int:
        """Write text that may have colours and move the cursor. After a failure, drop it."""
        return self._write(text, r"[^\n\r\t\x1b]+")

    def _write(self, text: str, escaped: str) -> int:
        if self.escapes:
            text = re.sub(escaped, lambda found: printable(found[0]), text)
        with self._without_failure():
            super().write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered. After a failure, drop it."""
        with self._without_failure():
            super().flush()

    @contextlib.contextmanager
    def _without_failure(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno != errno.EPIPE:
                self.error = self.error or error
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())


class _OneLine(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        message = printable(" ".join(record.getMessage().split()))
        print(f"{record.levelname.lower()}: {message}", file=sys.stderr)


@contextlib.contextmanager
def show_phase(name: str) -> Iterator[None]:
    """Show a long phase on stderr; on a terminal with the elapsed time."""
    if not sys.stderr.isatty():
        print(name, file=sys.stderr, flush=True)
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    with Progress(*columns, console=Console(file=_styled(sys.stderr))) as progress:
        progress.add_task(printable(name), total=None)
        yield


def _styled(stream: Any) -> Any:
    """Return the stream for rich, which removes such sequences from what others print meanwhile."""
    if not isinstance(stream, _Output):
        return stream
    names = ("flush", "isatty", "fileno", "encoding")
    return SimpleNamespace(
        write=stream.write_styled, **{name: getattr(stream, name) for name in names}
    )


def print_data(text: str) -> None:
    """Print data that other programs read. File names may contain any bytes."""
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    if isinstance(sys.stdout, _Output):
        sys.stdout.escapes = sys.stdout.isatty()
    print(text, end="", flush=True)


def fail(error: Exception | str, status: int, hint: str = "") -> int:
    """Print the error as one line, after its traceback with --debug. Return ``status``."""
    if "--debug" in sys.argv and isinstance(error, Exception):
        traceback.print_exception(error)
    print(f"error: {printable(' '.join(str(error).split()))}{hint}", file=sys.stderr)
    return status
