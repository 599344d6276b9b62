"""The live stream of events: the run log, followed by `seq` and sent to WebSocket clients. Reads the log only.

frames    one log entry as one event, rendered once for all clients
filters   which events a client wants
ring      the newest events of this process, which all clients read at their own place
source    reading the log, in order and without gaps
tailer    the thread that follows the log while there are clients
"""
