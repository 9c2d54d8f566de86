"""`python -m lingraft`, which is how a launcher such as torchrun starts it."""

from lingraft.cli import main

main()
