"""The controller process: the metadata log, replicated by Raft."""
