"""SASRec on packed tokens, its losses and the Barlow Twins term: torch only, no file, no database, no ray."""
