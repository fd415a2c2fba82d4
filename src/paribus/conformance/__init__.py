"""What every technique must hold, ours or a third party's: one battery of checks over an overlay."""
