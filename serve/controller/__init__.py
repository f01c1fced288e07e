"""The control plane: one actor that reconciles routes, canaries, monitoring and jobs with the ledger."""
