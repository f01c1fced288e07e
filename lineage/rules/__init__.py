"""Who may record which fact, in which order, on which evidence."""
