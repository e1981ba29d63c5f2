"""The work of the commands, one package per verb."""
