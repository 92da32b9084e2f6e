"""Pure: what will be done, and why. No I/O, no clock, no environment in here."""
