"""Clusters of real processes on this machine, and the klamm command."""
