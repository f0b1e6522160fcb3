"""The ledger, pure: blocks and certificates, transactions, the state tree with its proofs, and execution."""
