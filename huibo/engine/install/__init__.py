"""Getting an Asterisk and running it privately: which one, from where, with what folders and ports.

Never touches the machine's own Asterisk configuration, services or packages.
"""


class InstallError(Exception):
    """Something needed to run Asterisk is missing. The message is one line and says what to do."""
