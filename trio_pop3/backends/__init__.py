"""Where mail lives. Each module is one store behind the contract of `trio_pop3.backend`."""
