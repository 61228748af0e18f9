"""What the whole has to show on real mail from a real server: nothing lost, nothing doubled, nothing half."""
