"""The checks. Each file holds one class and one instance of it called `check`; the policy names those that run."""
