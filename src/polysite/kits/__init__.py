"""Start-up kits: certificates and keys by which a consortium's server and hospitals know one another."""
