"""How one request becomes a decision: routing, scoring, reasons, fallback."""
