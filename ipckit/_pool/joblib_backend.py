"""The backend "ipckit" of joblib: `joblib.parallel_backend("ipckit")`."""


def register_joblib() -> None:
    """x"""
