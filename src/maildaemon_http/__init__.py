"""What people and programs operate maildaemon with: the ``maildaemon`` command."""
