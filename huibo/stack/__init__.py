"""A whole huibo on one machine: engine, sandbox carrier and control plane, on loopback, in one folder."""
