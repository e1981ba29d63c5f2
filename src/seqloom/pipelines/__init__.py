"""What the commands do: one package a verb."""
