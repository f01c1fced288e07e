"""What is given to examiners: one file that verifies the record and needs nothing else of this project."""
