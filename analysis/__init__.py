"""From records to effects, tables and figures."""
