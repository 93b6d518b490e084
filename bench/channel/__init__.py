"""The channel beside its peers: two processes on two cores, between probes of the machine."""
