"""A pool of worker processes that continues when a worker dies.

`ProcessPool` replaces `concurrent.futures.ProcessPoolExecutor`.
"""

from ipckit._pool.errors import WorkerDied
from ipckit._pool.joblib_backend import register_joblib
from ipckit._pool.pool import ProcessPool
from ipckit._pool.stats import PoolStats, WorkerStats

__all__ = ["PoolStats", "ProcessPool", "WorkerDied", "WorkerStats", "register_joblib"]
