"""Other programs: run one, run a pipe of two, or run the docker client. Each has a deadline, and fails loudly."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, TypeVar

from .errors import CommandError, ProvisionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

T = TypeVar("T")
R = TypeVar("R")

_GRACE = 5.0
"""Seconds between the request to stop and the kill, for a program that ran into its deadline."""

_SHOWN = 200
"""Characters of a command line that an error shows; scripts can be long."""


def run(
    argv: Sequence[str], *, timeout: float, stdin: bytes = b"", environment: Mapping[str, str] | None = None
) -> str:
    """Run a program and return its standard output.

    `timeout` is in seconds; `environment` None means this process's own. Raises CommandError if the program fails or
    does not end in time, with everything it printed.
    """
    with (
        tempfile.TemporaryFile() as errors,
        _started(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, environment=environment
        ) as process,
    ):
        try:
            output, _ = process.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired:
            _stop(process)
            raise CommandError(_text(argv), None, f"did not end within {timeout:g} s", _read(errors)) from None
        if process.returncode:
            everything = output.decode(errors="replace") + _read(errors)
            raise CommandError(_text(argv), process.returncode, f"failed with status {process.returncode}", everything)
        return output.decode(errors="replace")


def pipe(source: Sequence[str], sink: Sequence[str], *, timeout: float) -> str:
    """Run `source | sink` and return what `sink` prints.

    `timeout` is in seconds. Raises CommandError if either fails (the source first: if it does, the sink only suffers
    from it), or if they do not end in time.
    """
    with (
        tempfile.TemporaryFile() as source_errors,
        tempfile.TemporaryFile() as sink_errors,
        _started(source, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=source_errors) as producer,
        _started(sink, stdin=producer.stdout, stdout=subprocess.PIPE, stderr=sink_errors) as consumer,
    ):
        if producer.stdout:
            producer.stdout.close()  # or the source would never learn that the sink is gone
        text = f"{_text(source)} | {_text(sink)}"
        try:
            output, _ = consumer.communicate(timeout=timeout)
            status = producer.wait(timeout=_GRACE)
        except subprocess.TimeoutExpired:
            _stop(producer)
            _stop(consumer)
            said = _read(source_errors) + _read(sink_errors)
            raise CommandError(text, None, f"did not end within {timeout:g} s", said) from None
        if status or consumer.returncode:
            said = _read(source_errors) + _read(sink_errors) + output.decode(errors="replace")
            outcome = f"failed with status {status} on its left and {consumer.returncode} on its right side"
            raise CommandError(text, status or consumer.returncode, outcome, said)
        return output.decode(errors="replace")


def docker(*arguments: str, timeout: float = 120, stdin: bytes = b"") -> str:
    """Run the docker client and return its standard output, stripped. `timeout` is in seconds. Raises CommandError."""
    return run(["docker", *arguments], timeout=timeout, stdin=stdin).strip()


def docker_agrees(*arguments: str, timeout: float = 120) -> bool:
    """Run the docker client, and say whether it succeeded. `timeout` is in seconds; running into it is a no."""
    try:
        docker(*arguments, timeout=timeout)
    except CommandError:
        return False
    return True


def in_parallel(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Do the same work on all items at once, wait for all, and return the results in the order of the items.

    Raises what the work raised; where several failed, one ProvisionError that tells of each.
    """
    todo = list(items)
    if not todo:
        return []
    with ThreadPoolExecutor(max_workers=len(todo)) as pool:
        futures = [pool.submit(work, item) for item in todo]
    failures = [failure for future in futures if (failure := future.exception()) is not None]
    if not failures:
        return [future.result() for future in futures]
    troubles = [failure for failure in failures if isinstance(failure, ProvisionError)]
    if len(failures) == 1 or len(troubles) < len(failures):
        raise next((failure for failure in failures if not isinstance(failure, ProvisionError)), failures[0])
    raise ProvisionError(
        "\n".join(trouble.what for trouble in troubles),
        "; or ".join(dict.fromkeys(trouble.todo for trouble in troubles)),
    )


@contextmanager
def _started(
    argv: Sequence[str],
    *,
    stdin: int | IO[bytes] | None,
    stdout: int,
    stderr: IO[bytes],
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program; whatever ends the block, it does not outlive it."""
    try:
        process = subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=stderr, env=environment)
    except FileNotFoundError:
        raise ProvisionError(
            f"the program {argv[0]} is not on this machine", f"install {argv[0]}, and try again"
        ) from None
    try:
        yield process
    finally:
        _stop(process)
        for stream in (process.stdin, process.stdout):
            if stream:
                stream.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a program if it still runs: ask first, since some have to tidy up, then kill."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(timeout=_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _read(stream: IO[bytes]) -> str:
    """Return all that was written into a temporary file."""
    stream.seek(0)
    return stream.read().decode(errors="replace")


def _text(argv: Sequence[str]) -> str:
    """Return a command as a person would type it, cut to a length that an error can show."""
    text = shlex.join(argv)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
