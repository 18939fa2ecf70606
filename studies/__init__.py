"""One small file per question; importing them loads neither torch nor ray."""
