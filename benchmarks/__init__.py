"""What the agent costs and how fast it is, measured in one run: `python -m benchmarks`."""
