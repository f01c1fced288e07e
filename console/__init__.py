"""Where people look and decide: browser and terminal. The console owns nothing; it is a client of the ledger."""
