"""What the commands' exit codes mean. Scripts, CI and Slurm rely on them, so they stay."""

OK = 0  # done, or done before
FAILED = 1
BAD_CONFIG = 2  # the input is wrong; one line says where and what to do
STUDY_FAILED = 3  # a study ended with failed cells
MISMATCH = 4  # `paribus verify` or `paribus study run --repeat` trained again and something differs
REQUEUE = 75  # stopped with a checkpoint; the same command again resumes
INTERRUPTED = 130  # Ctrl-C where no checkpoint can be written: 128 plus the number of SIGINT, as in shells
