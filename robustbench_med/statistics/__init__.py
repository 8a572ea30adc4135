"""From the table of records to estimates with intervals; no torch."""
