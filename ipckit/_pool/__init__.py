"""`ProcessPool`, an executor whose workers can be killed, over channels."""
