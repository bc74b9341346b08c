"""Processes, signals, files and directories: what every command runs on."""
