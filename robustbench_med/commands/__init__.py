"""One subcommand of `rbmed` per file: calls the library, prints, returns an exit code."""
