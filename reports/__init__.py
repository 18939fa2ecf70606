"""Tables and figures from the results database; never imports torch, ray or optuna."""
