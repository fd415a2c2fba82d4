"""`python -m paribus.cli` is `paribus`; torchrun and srun start it this way."""

from paribus.cli.main import main

if __name__ == "__main__":
    main()
