"""What every op does between its arguments and a kernel."""
