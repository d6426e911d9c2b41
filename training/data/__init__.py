"""Tables of applications and history: found, read, checked."""
