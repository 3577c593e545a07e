"""`python -m gtcbmuf` is `gtcbmuf`."""

from gtcbmuf.cli import main

main()
