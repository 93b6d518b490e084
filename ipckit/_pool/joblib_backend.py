"""The joblib backend "ipckit", which runs the tasks of joblib in a `ProcessPool`."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import import_module
from inspect import signature
from pickle import loads
from typing import TYPE_CHECKING, Any, Final

from ipckit._core.public import public
from ipckit._pool.pool import ProcessPool

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

_OPTIONS: Final = frozenset(signature(ProcessPool).parameters)


@public("ipckit.pool")
def register_joblib() -> None:
    """Register the backend "ipckit" of joblib, which runs tasks in a `ProcessPool`.

    After that, ``joblib.parallel_backend("ipckit")`` and ``joblib.Parallel(backend="ipckit")`` use
    the backend. Packages that are built on joblib use it too, such as scikit-learn with ``n_jobs``.
    `joblib.parallel_backend` passes other keyword arguments to `ProcessPool`, such as
    ``retries=1``. The start method is "forkserver" by default, because a forked child of a program
    that has used OpenMP can hang.

    Functions are pickled by cloudpickle, as with joblib's own backend, so lambdas work.

    If joblib was imported before `ipckit.pool`, the backend is registered already.

    Raises:
        ImportError: joblib is not installed; ``pip install ipckit-linux[joblib]``.
    """
    joblib: Any = import_module("joblib")
    backends: Any = import_module("joblib._parallel_backends")
    bases = (_Backend, backends.AutoBatchingMixin, backends.ParallelBackendBase)
    joblib.register_parallel_backend("ipckit", type("IpckitBackend", bases, {}))


class _Backend:
    """The methods of the backend. `register_joblib` combines it with two base classes of joblib.

    A backend keeps its pool from one call of `joblib.Parallel` to the next.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    _pool: ProcessPool | None = None
    _made_with: tuple[int, dict[str, Any]] = (0, {})

    # Attributes and methods of joblib's base classes.
    parallel: Any
    backend_kwargs: dict[str, Any]
    reset_batch_stats: Callable[[], None]
    _prepare_worker_env: Callable[..., dict[str, str]]

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return the number of workers for joblib's argument `n_jobs`."""
        if n_jobs == 0:
            message = "n_jobs == 0 in Parallel has no meaning"
            raise ValueError(message)
        if n_jobs is None:
            return 1
        if n_jobs < 0:
            joblib: Any = import_module("joblib")
            return max(int(joblib.cpu_count()) + 1 + n_jobs, 1)
        return n_jobs

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: object = None,
        require: object = None,
        **options: Any,
    ) -> int:
        """Prepare the pool, and return the number of workers."""
        del prefer, require
        workers = self.effective_n_jobs(n_jobs)
        self.parallel = parallel
        # The other options belong to joblib's own pools, such as `max_nbytes`.
        options = {name: value for name, value in options.items() if name in _OPTIONS}
        options = {"mp_context": "forkserver", **self.backend_kwargs, **options}
        if self._pool is None or self._made_with != (workers, options):
            self._made_with = workers, options
            self._pool = self._new_pool()
        return workers

    def _new_pool(self) -> ProcessPool:
        workers, options = self._made_with
        env = self._prepare_worker_env(n_jobs=workers)
        limits: dict[str, Any] = {"initializer": _limit_threads, "initargs": (env,)}
        return ProcessPool(workers, **{**limits, **options})

    def submit(
        self, func: Callable[[], Any], callback: Callable[[Future[Any]], object] | None = None
    ) -> Future[Any]:
        """Submit a batch of calls."""
        if self._pool is None:
            message = "the backend is not configured"
            raise RuntimeError(message)
        pickler: Any = import_module("cloudpickle")
        buffers: list[Any] = []
        data = pickler.dumps(func, protocol=5, buffer_callback=buffers.append)
        future = self._pool.submit(_run, data, buffers)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    apply_async = submit  # joblib before 1.5 uses this name

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Return the results of a batch, or raise its exception."""
        return out.result()

    def terminate(self) -> None:
        """End a call of `joblib.Parallel`. The pool stays for the next call."""
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:  # noqa: FBT001, FBT002
        """Cancel the waiting tasks after an exception, and prepare a new pool."""
        del ensure_ready
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = self._new_pool()


def _limit_threads(variables: dict[str, str]) -> None:
    """Limit the threads of numerical libraries in a new worker, like joblib's own backend.

    A library reads its environment variable when it is loaded. The main module of the program may
    have loaded it already. In this case threadpoolctl sets the limit, if it is installed.
    scikit-learn depends on it.
    """
    os.environ.update(variables)
    with suppress(ImportError, ValueError):
        threadpoolctl: Any = import_module("threadpoolctl")
        threadpoolctl.threadpool_limits(int(variables["OMP_NUM_THREADS"]))


def _run(data: bytes, buffers: list[Any]) -> Any:
    """Run a batch of calls in a worker."""
    return loads(data, buffers=buffers)()  # noqa: S301 - all tasks of a pool are pickled


if "joblib" in sys.modules:  # otherwise do not import it, which takes longer than all of ipckit
    register_joblib()
