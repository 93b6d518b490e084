"""The topic beside its peers: one publisher, and subscribers that check and count what arrives."""
