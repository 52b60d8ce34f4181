"""Emulated microcontrollers: the C of a program compiled for a core, run on QEMU, its instructions counted."""
