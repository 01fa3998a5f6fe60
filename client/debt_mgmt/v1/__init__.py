"""The wire contract as Python: generated from proto/debt_mgmt/v1 by scripts/generate.sh, never edited."""
