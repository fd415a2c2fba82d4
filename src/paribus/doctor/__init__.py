"""`paribus doctor`: what this machine has and lacks, and what only a GPU can show."""
