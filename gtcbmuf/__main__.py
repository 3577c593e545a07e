"""`python -m gtcbmuf` is `gtcbmuf`."""

from gtcbmuf.cli.main import main

main()
