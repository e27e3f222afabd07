"""huibo: a self-hosted callback (click-to-call) voice platform on Asterisk."""

__version__ = "0.1.0"
