"""The channel beside its peers: two processes on two cores, bracketed by a probe of the machine."""
