"""Our metrics and our SASRec against RecTools' on ML-1M: `make peers`, which writes PEERS.md; not part of the tests."""
