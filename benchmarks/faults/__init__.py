"""What happens to the record when processes are killed, power is lost and bytes are changed: runs with counts."""
