"""`python -m seqloom`, which is how `torchrun -m seqloom` starts each process."""

from seqloom.cli.main import main

if __name__ == "__main__":
    main()
