"""What it costs: measured side by side with a program that people know, in one run, on one disk.

python -m tests.bench [--mails 10000] [--rounds 3] [--folder FOLDER]
"""
