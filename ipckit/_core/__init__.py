"""What all mechanisms share: handles, descriptors, deadlines, the kernel's limits."""
