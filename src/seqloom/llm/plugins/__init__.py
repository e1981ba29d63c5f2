"""Plug-ins of one frozen language model: adapters, the shared base, instruction tuning."""
