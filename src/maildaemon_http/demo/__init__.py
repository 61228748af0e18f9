"""The demo: a mail server inside the process, a dozen mails of the kinds that people get, and what became of each."""
