"""Licences at work: services that cost units of the ledger, and the vouchers that pay for their calls."""
