"""Pages of accounts, for admins, and the page on which a person chooses a password. Plain HTML: no script is needed."""
