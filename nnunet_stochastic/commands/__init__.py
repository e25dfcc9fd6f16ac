"""The console commands, one module each: ``main(argv) -> exit status`` parses, calls and prints."""
