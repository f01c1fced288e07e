"""The judge: anytime-valid statistics over evidence, and the verdict."""
