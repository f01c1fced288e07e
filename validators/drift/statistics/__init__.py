"""The drift statistics. Each file holds one class and one instance of it called `statistic`; the policy names one."""
