"""The data plane: replicas that parse requests, admit them and reply."""
