"""What the worker's side and the supervisor's say to each other."""

STOP, BEAT = b"T", b"."
JOB, RESULT, OUTPUT = "job.json", "result.json", "output.arrow"  # files in a job's folder
COMMAND, SCRIPT = "command", "script"  # kinds of job
NOT_EXECUTED = 127  # exit status, as shells answer for a command that there is not
