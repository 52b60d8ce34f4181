"""ESP-DL files for Espressif's chips, written by their own exporter."""
